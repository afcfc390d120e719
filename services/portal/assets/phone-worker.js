// Beside the pages: shows that a sign-in waits, opens the page for it, and has something to say without a network.
// It decides nothing: there is no button in a notification.
"use strict";
importScripts("/assets/phone-device.js");

const CACHE = "phone";
const OFFLINE = "/phone/offline";
const KEPT = [
  OFFLINE,
  "/assets/portal.css",
  "/assets/phone.css",
  "/assets/phone-device.js",
  "/assets/phone-code.js",
  "/assets/phone-offline.js",
  "/assets/icon.svg",
];

self.addEventListener("install", (event) => {
  event.waitUntil(
    caches
      .open(CACHE)
      .then((cache) => cache.addAll(KEPT))
      .then(() => self.skipWaiting()),
  );
});

self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET") return;
  if (request.mode === "navigate") {
    event.respondWith(fetch(request).catch(() => caches.match(OFFLINE)));
  } else if (KEPT.includes(new URL(request.url).pathname)) {
    event.respondWith(newest(request));
  }
});

// From the network, so that an upgrade shows at once; what was kept, where there is none.
async function newest(request) {
  try {
    const response = await fetch(request);
    if (response.ok) await (await caches.open(CACHE)).put(request, response.clone());
    return response;
  } catch (error) {
    const kept = await caches.match(request);
    if (kept) return kept;
    throw error;
  }
}

self.addEventListener("push", (event) => event.waitUntil(prompted(event.data)));

// Every message shows something: browsers take the permission from those who wake them for nothing.
async function prompted(data) {
  let said = {};
  try {
    said = data.json().notification ?? {};
  } catch {
    // Not ours, or not readable: there may be something to see all the same.
  }
  for (const page of await self.clients.matchAll({ type: "window" })) page.postMessage("look");
  await self.registration.showNotification(said.title ?? "Twinlock", {
    body: said.body ?? "",
    lang: said.lang ?? "",
    icon: "/assets/icon-192.png",
    tag: "prompt",
    renotify: true,
    data: { navigate: said.navigate ?? "/phone" },
  });
}

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(opened(event.notification.data?.navigate));
});

async function opened(navigate) {
  const asked = new URL(navigate ?? "/phone", self.location.origin);
  const url = asked.origin === self.location.origin ? asked.href : "/phone";
  for (const page of await self.clients.matchAll({ type: "window" })) {
    if (new URL(page.url).pathname === "/phone") {
      page.postMessage("look");
      return page.focus();
    }
  }
  return self.clients.openWindow(url);
}

self.addEventListener("pushsubscriptionchange", (event) => event.waitUntil(subscribedAnew()));

async function subscribedAnew() {
  const device = await Twinlock.load();
  if (!device) return;
  const subscription = await Twinlock.subscribe(self.registration, device.vapid);
  await Twinlock.update(device, subscription);
  await Twinlock.keep({ ...device, told: subscription ? JSON.stringify(subscription) : "" });
}
