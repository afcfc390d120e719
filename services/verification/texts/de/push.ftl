# Was ein gesperrtes Telefon zeigt, wenn eine Anmeldung wartet. Kein Name, keine Anwendung, kein Ort.
push-title = Anmeldung bestätigen
push-body = Tippen, um die Anmeldung zu sehen und zu antworten.
