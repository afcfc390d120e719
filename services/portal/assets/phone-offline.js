// Back to the app as soon as there is a network again; until then this phone's code.
"use strict";
Twinlock.load().then(TwinlockCode.offer, () => null);
addEventListener("online", () => location.assign("/phone"));
