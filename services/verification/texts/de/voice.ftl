# Was ein Anruf sagt. Jeder Text bleibt unter zwanzig Sekunden.

voice-greeting = Guten Tag. Hier ist { $company }. Jemand meldet sich mit Ihrem Konto bei { $application } an. Wenn Sie das sind, drücken Sie die Raute-Taste.
voice-greeting-pin = Guten Tag. Hier ist { $company }. Jemand meldet sich mit Ihrem Konto bei { $application } an. Wenn Sie das sind, geben Sie Ihre PIN ein und drücken Sie die Raute-Taste.
voice-retry = Das wurde nicht verstanden. Um die Anmeldung zu bestätigen, drücken Sie die Raute-Taste.
voice-retry-pin = Die PIN war nicht richtig. Bitte geben Sie Ihre PIN noch einmal ein und drücken Sie die Raute-Taste.
voice-fraud-hint = Wenn Sie das nicht sind, drücken Sie die { $fraud_code }.
voice-fraud-hint-pin = Wenn Sie das nicht sind, drücken Sie die { $fraud_code } und dann die Raute-Taste.
voice-activation = Guten Tag. Hier ist { $company }. Jemand möchte mit diesem Telefon Anmeldungen bestätigen. Wenn Sie das sind, drücken Sie die Raute-Taste.
voice-activation-pin = Guten Tag. Hier ist { $company }. Jemand möchte mit diesem Telefon Anmeldungen bestätigen. Wenn Sie das sind, geben Sie Ihre PIN ein und drücken Sie die Raute-Taste.
voice-fraud-confirm = Um zu melden, dass sich jemand anderes mit Ihrem Konto anmeldet, drücken Sie die 1. Um zurückzugehen, drücken Sie die 2.
voice-fraud-done = Vielen Dank. Die Anmeldung wurde abgebrochen und gemeldet. Bitte ändern Sie Ihr Kennwort. Auf Wiederhören.
voice-extension-before = Dieser Anruf gilt einer Nebenstelle, die jetzt gewählt wird.
voice-extension-after = Bitte bleiben Sie am Apparat.
voice-new-pin = Ihre PIN muss geändert werden. Geben Sie eine neue PIN ein, drücken Sie die Stern-Taste, geben Sie dieselbe PIN noch einmal ein und drücken Sie die Raute-Taste.
voice-new-pin-refused = Diese PIN kann nicht verwendet werden. Beide Eingaben müssen gleich sein, und die PIN muss neu und schwer zu erraten sein.
voice-success = Vielen Dank. Die Anmeldung ist bestätigt. Auf Wiederhören.
voice-denied = Die Anmeldung wurde nicht bestätigt. Auf Wiederhören.
voice-gone = Auf diese Anmeldung wartet niemand mehr. Auf Wiederhören.
voice-test = Guten Tag. Dies ist ein Testanruf von { $company }. Anrufe funktionieren. Auf Wiederhören.
