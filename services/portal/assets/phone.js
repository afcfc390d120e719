// The app's page: waits for a sign-in, shows it, and sends the person's answer.
"use strict";
(() => {
  const POLL_MS = 2_000;
  const EXPIRING_MS = 15_000;
  const byId = (id) => document.getElementById(id);
  const sections = document.querySelectorAll("main > section");
  const problem = byId("problem");
  let device;
  let shown = null;
  let answering = false;
  let timer;
  let asking = false;

  // --- what is seen

  function show(id) {
    if (!byId(id).hidden) return;
    for (const section of sections) section.hidden = section.id !== id;
    tell("");
    byId(id).querySelector("h1").focus();
  }

  // `stays`: the next look does not take it away.
  function tell(reason, stays = false) {
    problem.hidden = !reason;
    problem.dataset.stays = stays ? "yes" : "no";
    const known = document.querySelector(`#reasons [data-reason="${CSS.escape(reason || "other")}"]`);
    const words = known ?? document.querySelector('#reasons [data-reason="other"]');
    problem.querySelector("p").textContent = reason ? words.textContent : "";
    if (reason) problem.scrollIntoView({ block: "nearest" });
  }

  function say(words) {
    byId("news").textContent = words;
  }

  function open(prompt) {
    shown = prompt;
    byId("prompt-application").textContent = prompt.application;
    byId("prompt-user").textContent = prompt.username;
    byId("prompt-place").textContent = prompt.place || byId("prompt-place").dataset.unknown;
    const time = byId("prompt-time");
    time.dateTime = new Date(prompt.begun).toISOString();
    time.textContent = new Date(prompt.begun).toLocaleTimeString(document.documentElement.lang);
    byId("number-field").hidden = !prompt.number_asked;
    byId("pin-field").hidden = !prompt.pin_asked;
    byId("number").value = "";
    byId("pin").value = "";
    count();
    show("prompt");
    say(byId("news").dataset.new);
    navigator.vibrate?.(200);
  }

  function close(result) {
    shown = null;
    say("");
    byId("pin").value = "";
    show(result);
    navigator.serviceWorker?.getRegistration("/phone").then(async (registration) => {
      for (const notification of (await registration?.getNotifications()) ?? []) notification.close();
    });
  }

  function count() {
    if (!shown) return;
    const left = shown.expires - Twinlock.now();
    byId("prompt-left").textContent = String(Math.max(0, Math.ceil(left / 1000)));
    if (left <= EXPIRING_MS && left > EXPIRING_MS - 1_000) say(byId("news").dataset.expiring);
    if (left <= 0 && !answering) close("result-gone");
  }

  // --- what is open

  async function look() {
    clearTimeout(timer);
    if (asking || !device || document.hidden) return;
    asking = true;
    try {
      heard(await Twinlock.prompts(device));
    } catch {
      tell("no_network");
    } finally {
      asking = false;
      timer = setTimeout(look, POLL_MS);
    }
  }

  function heard(answer) {
    if (answer.reason === "not_enrolled") {
      device = null;
      show("none");
      return;
    }
    if (answer.reason) {
      tell(answer.reason);
      return;
    }
    if (problem.dataset.stays !== "yes") tell("");
    if (answering) return;
    if (shown && !answer.prompts.some((prompt) => prompt.id === shown.id)) close("result-gone");
    if (!shown && answer.prompts.length > 0) open(answer.prompts[0]);
    if (!shown && nothingShown()) show("wait");
  }

  const nothingShown = () => [...sections].every((section) => section.hidden);

  // --- what is answered

  async function answer(decision) {
    if (!shown || answering) return;
    const prompt = shown;
    const number = byId("number").value.trim();
    const pin = byId("pin").value;
    if (decision === "approve" && prompt.number_asked && !/^\d{2}$/.test(number)) return askFor("number");
    if (decision === "approve" && prompt.pin_asked && !pin) return askFor("pin");
    busy(true);
    try {
      const reply = await Twinlock.decide(device, prompt, decision, number, decision === "approve" ? pin : "");
      answered(decision, reply);
    } catch (error) {
      // The person or the browser ended the passkey; anything else is the way to the server.
      tell(error instanceof DOMException && error.name === "NotAllowedError" ? "passkey_refused" : "no_network", true);
    } finally {
      busy(false);
      look();
    }
  }

  function askFor(field) {
    tell(`${field}_missing`, true);
    byId(field).focus();
  }

  function answered(decision, reply) {
    const results = { approve: "result-approved", deny: "result-denied", fraud: "result-fraud" };
    if (reply.taken) {
      if (reply.code) takeCode(reply.code);
      return close(results[decision]);
    }
    switch (reply.reason) {
      case "wrong_pin":
        byId("pin").value = "";
        tell("wrong_pin", true);
        return byId("pin").focus();
      case "challenge_gone":
        return close("result-gone");
      case "wrong_number":
        tell(reply.reason);
        byId("failed-reason").textContent = problem.textContent.trim();
        return close("result-failed");
      default:
        return tell(reply.reason, true);
    }
  }

  // With the first approval comes a seed for codes; without them the phone counts all the same.
  async function takeCode(code) {
    device = await Twinlock.takeCode(device, code).catch(() => device);
    TwinlockCode.offer(device);
  }

  function busy(yes) {
    answering = yes;
    byId("signing").hidden = !yes;
    for (const button of byId("answer").querySelectorAll("button")) button.disabled = yes;
    if (yes) tell("");
  }

  // --- being woken

  async function notifications(registration) {
    const can = Twinlock.canBeWoken(registration);
    const ios = /iPhone|iPad/.test(navigator.userAgent) && navigator.standalone === false;
    byId("home").hidden = !ios;
    byId("notify").hidden = !can || Notification.permission !== "default";
    byId("notify-denied").hidden = !can || Notification.permission !== "denied";
    if (can && Notification.permission === "granted") await wakeable(registration);
  }

  // Tells the server of a subscription that it does not know.
  async function wakeable(registration) {
    const subscription = await Twinlock.subscribe(registration, device.vapid);
    const text = subscription ? JSON.stringify(subscription) : "";
    if (!subscription || device.told === text) return;
    const reply = await Twinlock.update(device, subscription).catch(() => ({ reason: "no_network" }));
    if (reply.reason) return;
    device = { ...device, ...(await Twinlock.load()), told: text };
    await Twinlock.keep(device);
  }

  async function start() {
    if (location.hash.length > 1) return location.replace(`/phone/activate${location.hash}`);
    const registering = navigator.serviceWorker?.register("/phone/worker.js", { scope: "/phone" }).catch(() => null);
    device = await Twinlock.load();
    if (!device) return show("none");
    byId("account").textContent = device.account;
    TwinlockCode.offer(device);
    navigator.serviceWorker?.addEventListener("message", () => look());
    addEventListener("online", () => look());
    document.addEventListener("visibilitychange", () => look());
    setInterval(count, 1_000);
    await look();
    const registration = await registering;
    if (!registration || !device) return;
    byId("notify-button").addEventListener("click", async () => {
      await Notification.requestPermission();
      await notifications(registration);
    });
    await navigator.serviceWorker.ready;
    await notifications(registration);
  }

  byId("answer").addEventListener("submit", (event) => {
    event.preventDefault();
    answer("approve");
  });
  byId("deny").addEventListener("click", () => answer("deny"));
  byId("fraud").addEventListener("click", () => answer("fraud"));
  for (const button of document.querySelectorAll(".done-button")) {
    button.addEventListener("click", () => {
      show("wait");
      look();
    });
  }
  start();
})();
