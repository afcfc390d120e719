// Makes a passkey (WebAuthn) and sends its public part with the form.
"use strict";
(() => {
  const form = document.getElementById("passkey-new");
  const impossible = document.getElementById("impossible");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    impossible.hidden = true;
    try {
      const options = PublicKeyCredential.parseCreationOptionsFromJSON(JSON.parse(form.dataset.options));
      const credential = await navigator.credentials.create({ publicKey: options });
      form.elements.credential.value = JSON.stringify(credential.toJSON());
      form.submit();
    } catch {
      impossible.hidden = false;
    }
  });
})();
