// The code for where there is no network: shown when it is asked for, and taken away when nobody looks.
"use strict";
self.TwinlockCode = (() => {
  const SHOWN_MS = 60_000;
  const byId = (id) => document.getElementById(id);
  let until = 0;
  let timer;

  // Offered where this phone holds one.
  function offer(device) {
    byId("codes").hidden = !device?.code;
    if (!device?.code) return;
    byId("code-button").onclick = () => {
      until = Date.now() + SHOWN_MS;
      draw(device.code);
    };
  }

  async function draw(held) {
    clearTimeout(timer);
    const shown = Date.now() < until && !document.hidden;
    byId("code-now").hidden = !shown;
    byId("code-button").hidden = shown;
    if (!shown) return;
    const { digits, left } = await Twinlock.code(held);
    const half = digits.length / 2;
    const text = `${digits.slice(0, half)} ${digits.slice(half)}`;
    // Written only when it changes: it is read out.
    if (byId("code-digits").textContent !== text) byId("code-digits").textContent = text;
    byId("code-left").textContent = String(Math.ceil(left));
    timer = setTimeout(() => draw(held), 500);
  }

  return { offer };
})();
