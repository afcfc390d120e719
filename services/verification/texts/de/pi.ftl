# Was eine App des privacyIDEA-Protokolls zeigt. Je eine Zeile; ein senkrechter Strich wird weggelassen.

pi-question = Als { $username } bei { $application } anmelden?
pi-question-place = Als { $username } bei { $application } anmelden, von { $place }?
pi-activation = Mit diesem Telefon Anmeldungen von { $username } bestätigen?
