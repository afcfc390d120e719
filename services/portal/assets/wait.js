// Asks whether the person has answered on the phone, and goes on when they have. Without it the button does the same.
"use strict";
(async () => {
  const form = document.getElementById("wait");
  form.hidden = true;
  const pause = (milliseconds) => new Promise((resume) => setTimeout(resume, milliseconds));
  const patience = Date.now() + 130000;
  let backOff = 1000;
  while (Date.now() < patience) {
    const begun = Date.now();
    let answer;
    try {
      const response = await fetch(form.action, {
        method: "POST",
        headers: { "Accept": "application/json" },
        body: new URLSearchParams(new FormData(form)),
      });
      if (!response.ok) throw new Error(response.status);
      answer = await response.json();
      backOff = 1000;
    } catch {
      await pause(backOff);
      backOff = Math.min(2 * backOff, 16000);
      continue;
    }
    if (answer.sentence) {
      const notice = document.createElement("div");
      notice.className = "notice bad";
      notice.setAttribute("role", "alert");
      const sentence = document.createElement("p");
      sentence.textContent = answer.sentence;
      const reference = document.createElement("p");
      reference.className = "ref";
      reference.textContent = answer.reference;
      notice.append(sentence, reference);
      document.getElementById("waiting").replaceWith(notice);
      document.getElementById("match")?.remove();
      return;
    }
    if (answer.next) {
      location.assign(answer.next);
      return;
    }
    // Still open. An answer that was not waited for must not make us ask without end.
    await pause(Math.max(0, begun + 1000 - Date.now()));
  }
  form.hidden = false;
})();
