# Was ein Gerät mit einer Access-Challenge zeigt. Eine Reply-Message fasst 253 Oktette.

challenge-code = Geben Sie Ihren Code ein
challenge-code-sms = Geben Sie den Code ein, der an { $destination } gesendet wurde
challenge-code-recovery = Geben Sie einen Ihrer Wiederherstellungscodes ein
challenge-code-and-pin = Geben Sie Ihren Code und direkt dahinter Ihre PIN ein
challenge-code-and-pin-sms = Geben Sie den an { $destination } gesendeten Code und direkt dahinter Ihre PIN ein
challenge-new-pin = Wählen Sie eine neue PIN
challenge-new-pin-again = Geben Sie die neue PIN noch einmal ein
challenge-choice = Wie möchten Sie sich anmelden? Geben Sie eine Nummer ein
challenge-choice-push = In der App bestätigen
challenge-choice-call = Anruf
challenge-choice-sms = SMS
challenge-choice-sms-reply = SMS, die Sie beantworten
challenge-choice-code = Code der App oder des Tokens
challenge-choice-recovery = Wiederherstellungscode
challenge-approval = Bestätigen Sie die Anmeldung auf Ihrem Telefon und drücken Sie dann Enter
challenge-approval-number = Wählen Sie { $number } in Ihrer App und drücken Sie dann Enter
challenge-approval-call = Wir rufen { $destination } an. Nehmen Sie ab und drücken Sie dann Enter
challenge-approval-sms-reply = Beantworten Sie die SMS an { $destination } und drücken Sie dann Enter

challenge-after-wrong-code = Der Code war falsch.
challenge-after-reused-code = Dieser Code wurde schon benutzt. Warten Sie auf den nächsten und geben Sie ihn ein
challenge-after-wrong-pin = Die PIN war falsch.
challenge-after-new-pin = Diese PIN ist nicht möglich, oder die beiden waren nicht gleich.
challenge-after-choice = Das ist keine der Nummern.
challenge-after-no-answer = Niemand hat geantwortet.
challenge-after-no-contact = Ihr Telefon war nicht zu erreichen.
challenge-after-provider-error = Es konnte nichts an Sie gesendet werden.
challenge-after-other = Das hat nicht geklappt.
