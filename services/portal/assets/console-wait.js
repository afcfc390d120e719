// Asks again whether the run has ended. Without it the link does the same.
"use strict";
setTimeout(() => location.replace(document.getElementById("again").href), 1500);
