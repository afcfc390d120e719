// Back to the app as soon as there is a network again.
"use strict";
addEventListener("online", () => location.assign("/phone"));
