// Asks whether the person has answered on the phone, and goes on when they have. Without it the button does the same.
"use strict";
(async () => {
  const form = document.getElementById("wait");
  form.hidden = true;
  const patience = Date.now() + 130000;
  while (Date.now() < patience) {
    let answer;
    try {
      const response = await fetch(form.action, {
        method: "POST",
        headers: { "Accept": "application/json" },
        body: new URLSearchParams(new FormData(form)),
      });
      answer = await response.json();
    } catch {
      await new Promise((resume) => setTimeout(resume, 2000));
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
  }
  form.hidden = false;
})();
