// Makes this phone a device: the code, then a passkey and a key of the browser, whose public parts are sent once.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const sections = document.querySelectorAll("main > section");
  const problem = byId("problem");
  let code = "";
  let begun;
  // Kept over tries: the same phone sends the same keys again.
  let keys;
  let credential = null;

  function show(id) {
    for (const section of sections) section.hidden = section.id !== id;
    tell("");
    byId(id).querySelector("h1").focus();
  }

  function tell(reason) {
    problem.hidden = !reason;
    const words =
      document.querySelector(`#reasons [data-reason="${CSS.escape(reason || "other")}"]`) ??
      document.querySelector('#reasons [data-reason="other"]');
    problem.querySelector("p").textContent = reason ? words.textContent : "";
  }

  async function begin() {
    show("working");
    try {
      begun = await Twinlock.post("/phone/api/begin", { code });
    } catch {
      begun = { reason: "no_network" };
    }
    if (begun.reason) {
      show("enter");
      return tell(begun.reason);
    }
    byId("confirm-company").textContent = begun.company;
    byId("confirm-account").textContent = begun.account;
    show("confirm");
  }

  async function connect(withPasskey) {
    const name = byId("name").value.trim();
    show("working");
    try {
      keys ??= await Twinlock.newKey();
      if (withPasskey) credential ??= await Twinlock.newPasskey(begun.passkey);
    } catch {
      if (begun.passkey_required) {
        show("confirm");
        return tell("passkey_refused");
      }
      return show("without");
    }
    try {
      const registration = await navigator.serviceWorker?.ready;
      const subscription = await Twinlock.subscribe(registration, begun.vapid_public_key);
      const device_key = await crypto.subtle.exportKey("jwk", keys.publicKey);
      const { device_id } = begun;
      const sent = { code, device_id, name, device_key, credential, subscription };
      const reply = await Twinlock.post("/phone/api/finish", sent);
      if (reply.reason) {
        show("enter");
        return tell(reply.reason);
      }
      const told = subscription ? JSON.stringify(subscription) : "";
      await Twinlock.keep({ id: device_id, keys, account: begun.account, vapid: begun.vapid_public_key, told });
      await navigator.storage?.persist?.();
    } catch {
      show("confirm");
      return tell("no_network");
    }
    byId("with-pin").hidden = !begun.pin;
    show("connected");
    byId("notify").hidden = !("Notification" in self) || Notification.permission !== "default";
  }

  byId("code-form").addEventListener("submit", (event) => {
    event.preventDefault();
    code = byId("code").value;
    begin();
  });
  byId("confirm-form").addEventListener("submit", (event) => {
    event.preventDefault();
    connect(true);
  });
  byId("retry-passkey").addEventListener("click", () => connect(true));
  byId("without-passkey").addEventListener("click", () => connect(false));
  // The app's page subscribes, now that it may.
  byId("notify-button").addEventListener("click", async () => {
    await Notification.requestPermission();
    byId("notify").hidden = true;
  });

  navigator.serviceWorker?.register("/phone/worker.js", { scope: "/phone" }).catch(() => null);
  // There the page and the app on the Home Screen share no storage: what is connected here is not connected there.
  byId("home").hidden = !(/iPhone|iPad/.test(navigator.userAgent) && navigator.standalone === false);
  const model = /iPhone|iPad|Android/.exec(navigator.userAgent);
  if (model) byId("name").value = model[0];
  if (location.hash.length > 1) {
    code = decodeURIComponent(location.hash.slice(1));
    // It stays in no history.
    history.replaceState(null, "", location.pathname);
    begin();
  } else {
    show("enter");
  }
})();
