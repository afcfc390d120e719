# Was die App auf dem Telefon sagt.
app-name = Anmeldung
footer = Geschützt durch Twinlock

wait-title = Keine Anmeldung wartet
wait-lead = Wenn Sie sich irgendwo anmelden, erscheint die Anfrage hier.
wait-open = Solange diese Seite offen ist, sucht sie selbst nach Anfragen.
account = Konto
notify-title = Sofort von Anfragen erfahren
notify-lead = Erlauben Sie Mitteilungen, damit dieses Telefon meldet, wenn eine Anmeldung wartet.
notify-button = Mitteilungen einschalten
notify-denied = Mitteilungen sind in den Einstellungen dieses Browsers gesperrt. Anfragen erscheinen, solange diese Seite offen ist.
home-title = Auf den Home-Bildschirm legen
home-lead = Auf iPhone und iPad kommen Mitteilungen nur in die App auf dem Home-Bildschirm: Teilen antippen, dann „Zum Home-Bildschirm“, und von dort öffnen.

codes-title = Ohne Netz
codes-lead = Dieses Telefon macht auch Codes, wenn keine Anfrage ankommt. Dafür braucht es kein Netz.
codes-button = Code zeigen

none-title = Dieses Telefon ist nicht verbunden
none-lead = Verbinden Sie es mit Ihrem Konto, um Anmeldungen hier zu bestätigen.
none-button = Dieses Telefon verbinden

prompt-title = Melden Sie sich gerade an?
prompt-new = Eine Anmeldung wartet auf Ihre Antwort.
application = Anwendung
user = Benutzer
place = Von
place-unknown = unbekannt
time = Zeit
left = Noch
seconds = Sekunden
number-label = Zahl, die dort steht, wo Sie sich anmelden
number-help = Geben Sie die zwei Ziffern vom anderen Bildschirm ein.
pin-label = PIN
approve = Bestätigen
deny = Nein, ablehnen
fraud = Das war ich nicht
fraud-help = Lehnt ab, sperrt Ihr Konto für neue Anmeldungen und meldet es der Administration.
signing = Auf diesem Telefon bestätigen …

approved-title = Bestätigt
approved-lead = Sie können dorthin zurückkehren, wo Sie sich anmelden.
denied-title = Abgelehnt
denied-lead = Die Anmeldung wurde abgelehnt. Neue Anfragen müssen kurz warten.
fraud-title = Gemeldet
fraud-lead = Die Anmeldung wurde abgelehnt und gemeldet. Vielleicht kennt jemand Ihr Kennwort: Ändern Sie es, und sprechen Sie mit Ihrem Helpdesk.
gone-title = Vorbei
gone-lead = Diese Anfrage wurde anderswo beantwortet, oder ihre Zeit ist abgelaufen.
failed-title = Nicht angenommen
done = Fertig
expiring = Diese Anfrage endet in wenigen Sekunden.

activate-title = Dieses Telefon verbinden
activate-lead = Geben Sie den Code ein, den das Portal zeigt, oder scannen Sie den QR-Code mit der Kamera.
code-label = Code
code-help = 26 Buchstaben und Ziffern. Leerzeichen und Striche sind egal.
activate-next = Weiter
activate-confirm-title = Mit diesem Konto verbinden?
activate-confirm-lead = Gehen Sie nur weiter, wenn Sie das eben selbst begonnen haben.
company = Unternehmen
device-name = Name dieses Telefons
device-name-default = Mein Telefon
activate-button = Verbinden
activate-passkey = Dieses Telefon legt einen Passkey für Bestätigungen an. Fingerabdruck, Gesicht oder Displaysperre verlassen es nie.
activate-without = Es konnte kein Passkey angelegt werden. Bestätigungen dieses Telefons werden mit einem einfacheren Schlüssel unterschrieben.
activate-without-button = Ohne Passkey weiter
activate-working = Wird verbunden …
activate-done-title = Verbunden
activate-done-lead = Es folgt eine Probeanfrage. Bestätigen Sie sie, dann zählt das Telefon.
activate-done-button = Weiter
activate-pin = Manche Anwendungen fragen bei der Bestätigung auch nach Ihrer PIN.
activate-failed-title = Nicht verbunden

offline-title = Kein Netz
offline-lead = Dieses Telefon erreicht den Server nicht. Codes gehen auch ohne Netz.
offline-button = Noch einmal versuchen
no-script = Diese App braucht JavaScript.

reason-wrong-number = Das war nicht die Zahl auf dem anderen Bildschirm. Die Anfrage ist vorbei; melden Sie sich neu an.
reason-wrong-pin = Die PIN war falsch. Versuchen Sie es noch einmal.
reason-locked-out = Zu viele falsche PINs. Fragen Sie Ihren Helpdesk.
reason-challenge-gone = Die Anfrage oder der Code ist vorbei oder wurde schon benutzt.
reason-not-enrolled = Dieses Telefon ist nicht mehr verbunden.
reason-blocked = Ihr Konto ist gesperrt. Fragen Sie Ihren Helpdesk.
reason-rate-limited = Zu viele Anfragen in kurzer Zeit. Warten Sie einen Moment.
reason-no-usable-method = Das ist mit diesem Telefon nicht möglich.
reason-passkey-refused = Der Passkey wurde nicht benutzt. Versuchen Sie es noch einmal.
reason-number-missing = Geben Sie zuerst die zwei Ziffern vom anderen Bildschirm ein.
reason-pin-missing = Geben Sie zuerst Ihre PIN ein.
reason-no-network = Keine Verbindung. Versuchen Sie es gleich noch einmal.
reason-other = Das hat nicht geklappt. Versuchen Sie es gleich noch einmal.
