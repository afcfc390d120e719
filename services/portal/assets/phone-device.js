// This phone as a device: its key, what it signs, and its requests. Used by the pages and by the service worker.
//
// The private key cannot be extracted from the browser; it lies in IndexedDB beside the device's id. What a person decides is
// signed over the whole transaction, written as RFC 8785 says: members in the order of their names, no space.
"use strict";
self.Twinlock = (() => {
  const PATIENCE_MS = 12_000;
  const SKEW_MS = 5_000;
  const ecdsa = { name: "ECDSA", hash: "SHA-256" };
  // How far the server's clock is ahead of ours, as its answers told.
  let ahead = 0;

  const octets = (text) => new TextEncoder().encode(text);
  const base64url = (buffer) => {
    let binary = "";
    for (const octet of new Uint8Array(buffer)) binary += String.fromCharCode(octet);
    return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
  };
  const fromBase64url = (text) =>
    Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (sign) => sign.charCodeAt(0));
  const sha256 = (text) => crypto.subtle.digest("SHA-256", octets(text));

  // --- what is kept

  const inStore = (mode, work) =>
    new Promise((resolve, reject) => {
      const opening = indexedDB.open("twinlock", 1);
      opening.onupgradeneeded = () => opening.result.createObjectStore("devices");
      opening.onerror = () => reject(opening.error);
      opening.onsuccess = () => {
        const database = opening.result;
        const transaction = database.transaction("devices", mode);
        const request = work(transaction.objectStore("devices"));
        transaction.oncomplete = () => {
          database.close();
          resolve(request.result);
        };
        transaction.onerror = () => reject(transaction.error);
        transaction.onabort = () => reject(transaction.error);
      };
    });
  const load = () => inStore("readonly", (store) => store.get("this"));
  const keep = (device) => inStore("readwrite", (store) => store.put(device, "this"));

  const newKey = () => crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, false, ["sign", "verify"]);

  // --- what is said

  const now = () => Date.now() + ahead;

  async function post(path, body) {
    const response = await fetch(path, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    const told = Date.parse(response.headers.get("date") ?? "");
    if (Number.isFinite(told) && Math.abs(told - Date.now() - ahead) > SKEW_MS) ahead = told - Date.now();
    const answer = await response.json().catch(() => ({}));
    return response.ok ? answer : { reason: answer.reason || "other" };
  }

  const sign = async (device, text) => base64url(await crypto.subtle.sign(ecdsa, device.keys.privateKey, octets(text)));

  async function prove(device, what) {
    const timestamp = new Date(now()).toISOString();
    const signature = await sign(device, `twinlock-device|${device.id}|${timestamp}|${what}`);
    return { device_id: device.id, timestamp, signature };
  }

  // With the server's time, where ours turned out to be wrong.
  async function ask(device, path, what, body) {
    const before = ahead;
    const answer = await post(path, { proof: await prove(device, what), ...body });
    if (answer.reason !== "challenge_gone" || ahead === before) return answer;
    return post(path, { proof: await prove(device, what), ...body });
  }

  const prompts = (device) => ask(device, "/phone/api/prompts", "prompts", {});

  async function update(device, subscription) {
    const text = subscription ? JSON.stringify(subscription) : "";
    return ask(device, "/phone/api/device", `update|${base64url(await sha256(text))}`, { subscription: text });
  }

  const transaction = (prompt, decision, number) =>
    JSON.stringify({
      application: prompt.application,
      client_ip: prompt.place,
      decision,
      expires: prompt.expires,
      id: prompt.id,
      number,
      user: prompt.username,
      v: 1,
    });

  async function decide(device, prompt, decision, typed, pin) {
    const number = decision === "approve" ? typed : "";
    const text = transaction(prompt, decision, number);
    const body = { prompt_id: prompt.id, decision, number, pin, assertion: null, signature: "" };
    if (decision === "approve" && prompt.passkey) {
      body.assertion = await assertion(prompt.passkey, await sha256(text));
    } else {
      body.signature = await sign(device, text);
    }
    return ask(device, "/phone/api/decide", `decide|${prompt.id}|${decision}|${number}`, body);
  }

  // --- codes without a network

  // RFC 6238, as the address of the seed says. The key cannot be extracted, as the device's own.
  async function code(held) {
    const moment = now() / 1000;
    const counter = new DataView(new ArrayBuffer(8));
    counter.setBigUint64(0, BigInt(Math.floor(moment / held.period)));
    const mac = new DataView(await crypto.subtle.sign("HMAC", held.key, counter.buffer));
    const number = mac.getUint32(mac.getUint8(mac.byteLength - 1) & 0x0f) & 0x7fffffff;
    const left = held.period - (moment % held.period);
    return { digits: String(number % 10 ** held.digits).padStart(held.digits, "0"), left };
  }

  function fromBase32(text) {
    const signs = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    const bits = [...text].map((sign) => signs.indexOf(sign).toString(2).padStart(5, "0")).join("");
    return Uint8Array.from({ length: Math.floor(bits.length / 8) }, (_, at) => parseInt(bits.slice(at * 8, at * 8 + 8), 2));
  }

  // Keeps the seed that came with the first approval once a code of it was taken. The device with it; without, where it was not.
  async function takeCode(device, { factor_id, uri }) {
    const says = new URL(uri).searchParams;
    const hash = { SHA1: "SHA-1", SHA256: "SHA-256", SHA512: "SHA-512" }[says.get("algorithm") ?? "SHA1"];
    const secret = fromBase32(says.get("secret"));
    const key = await crypto.subtle.importKey("raw", secret, { name: "HMAC", hash }, false, ["sign"]);
    const held = { key, digits: Number(says.get("digits") ?? 6), period: Number(says.get("period") ?? 30) };
    const { digits } = await code(held);
    const reply = await ask(device, "/phone/api/code", `code|${factor_id}|${digits}`, { factor_id, code: digits });
    if (reply.reason) return device;
    const kept = { ...(await load()), code: held };
    await keep(kept);
    return kept;
  }

  // --- passkeys

  const descriptor = (known) => ({ ...known, id: fromBase64url(known.id) });

  async function assertion(options, challenge) {
    const allowCredentials = options.allowCredentials.map(descriptor);
    const made = await navigator.credentials.get({ publicKey: { ...options, challenge, allowCredentials } });
    const { clientDataJSON, authenticatorData, signature } = made.response;
    return {
      id: made.id,
      rawId: base64url(made.rawId),
      type: made.type,
      response: {
        clientDataJSON: base64url(clientDataJSON),
        authenticatorData: base64url(authenticatorData),
        signature: base64url(signature),
      },
    };
  }

  async function newPasskey(options) {
    const publicKey = {
      ...options,
      challenge: fromBase64url(options.challenge),
      user: { ...options.user, id: fromBase64url(options.user.id) },
      excludeCredentials: options.excludeCredentials.map(descriptor),
    };
    const made = await navigator.credentials.create({ publicKey });
    return {
      id: made.id,
      rawId: base64url(made.rawId),
      type: made.type,
      response: {
        clientDataJSON: base64url(made.response.clientDataJSON),
        attestationObject: base64url(made.response.attestationObject),
        transports: made.response.getTransports?.() ?? [],
      },
    };
  }

  // --- being woken

  const canBeWoken = (registration) => Boolean(registration && "pushManager" in registration && "Notification" in self);

  // A browser whose push service cannot be reached takes its time to say so.
  const inTime = (work) =>
    Promise.race([work, new Promise((_, late) => setTimeout(() => late(new Error("no push service")), PATIENCE_MS))]);

  // `null`: this browser cannot be woken, or its person does not want it. The page polls all the same.
  async function subscribe(registration, vapidPublicKey) {
    if (!canBeWoken(registration) || Notification.permission !== "granted") return null;
    try {
      const applicationServerKey = fromBase64url(vapidPublicKey);
      const found = await registration.pushManager.getSubscription();
      const known = found?.options.applicationServerKey;
      if (found && known && base64url(known) === vapidPublicKey) return found;
      await found?.unsubscribe();
      return await inTime(registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey }));
    } catch {
      return null;
    }
  }

  return { load, keep, newKey, now, post, prompts, update, decide, code, takeCode, newPasskey, subscribe, canBeWoken };
})();
