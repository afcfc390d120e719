// Signs with a passkey (WebAuthn) and sends the assertion with the form.
"use strict";
(() => {
  const form = document.getElementById("passkey");
  const impossible = document.getElementById("impossible");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const options = PublicKeyCredential.parseRequestOptionsFromJSON(JSON.parse(form.dataset.options));
      const credential = await navigator.credentials.get({ publicKey: options });
      form.elements.code.value = JSON.stringify(credential.toJSON());
      form.submit();
    } catch {
      impossible.hidden = false;
    }
  });
})();
