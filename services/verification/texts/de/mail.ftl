mail-test-subject = Testnachricht von { $company }
mail-test-text =
    Dies ist eine Testnachricht von { $company }.

    Es ist nichts zu tun.

mail-welcome-call-subject = Die Anmeldung bei { $company } braucht jetzt Ihr Telefon
mail-welcome-call-text =
    Guten Tag { $first_name },

    ab jetzt wird eine Anmeldung mit Ihrem Benutzernamen { $username } am Telefon bestätigt. Nach Ihrem Passwort rufen wir Sie unter { $phone_masked } an. Nehmen Sie ab und drücken Sie #.

    Rufen wir an, ohne dass Sie sich anmelden, legen Sie auf und sagen Sie Ihrer Administration Bescheid.

mail-welcome-call-pin-subject = Die Anmeldung bei { $company } braucht jetzt Ihr Telefon
mail-welcome-call-pin-text =
    Guten Tag { $first_name },

    ab jetzt wird eine Anmeldung mit Ihrem Benutzernamen { $username } am Telefon bestätigt. Nach Ihrem Passwort rufen wir Sie unter { $phone_masked } an. Nehmen Sie ab, geben Sie Ihre PIN ein und drücken Sie #.

    Rufen wir an, ohne dass Sie sich anmelden, legen Sie auf und sagen Sie Ihrer Administration Bescheid.

mail-welcome-sms-subject = Die Anmeldung bei { $company } braucht jetzt Ihr Telefon
mail-welcome-sms-text =
    Guten Tag { $first_name },

    ab jetzt braucht eine Anmeldung mit Ihrem Benutzernamen { $username } einen Code. Nach Ihrem Passwort senden wir ihn als Textnachricht an { $phone_masked }. Geben Sie ihn dort ein, wo Sie sich anmelden.

    Auf anderem Weg fragen wir nie nach diesem Code.

mail-welcome-sms-pin-subject = Die Anmeldung bei { $company } braucht jetzt Ihr Telefon
mail-welcome-sms-pin-text =
    Guten Tag { $first_name },

    ab jetzt braucht eine Anmeldung mit Ihrem Benutzernamen { $username } einen Code. Nach Ihrem Passwort senden wir ihn als Textnachricht an { $phone_masked }. Geben Sie dort, wo Sie sich anmelden, den Code und dann Ihre PIN ein.

    Auf anderem Weg fragen wir nie nach diesem Code.

mail-welcome-push-subject = Die Anmeldung bei { $company } braucht jetzt Ihr Telefon
mail-welcome-push-text =
    Guten Tag { $first_name },

    ab jetzt bestätigen Sie eine Anmeldung mit Ihrem Benutzernamen { $username } auf Ihrem Telefon. Richten Sie es hier ein:
    { $portal_url }

    Bestätigen Sie nur, was Sie selbst begonnen haben.

mail-welcome-push-pin-subject = Die Anmeldung bei { $company } braucht jetzt Ihr Telefon
mail-welcome-push-pin-text =
    Guten Tag { $first_name },

    ab jetzt bestätigen Sie eine Anmeldung mit Ihrem Benutzernamen { $username } auf Ihrem Telefon mit Ihrer PIN. Richten Sie es hier ein:
    { $portal_url }

    Bestätigen Sie nur, was Sie selbst begonnen haben.

mail-welcome-code-subject = Die Anmeldung bei { $company } braucht jetzt einen Code
mail-welcome-code-text =
    Guten Tag { $first_name },

    ab jetzt braucht eine Anmeldung mit Ihrem Benutzernamen { $username } einen Code Ihrer Authenticator-App oder Ihres Tokens. Richten Sie es hier ein:
    { $portal_url }

mail-welcome-code-pin-subject = Die Anmeldung bei { $company } braucht jetzt einen Code
mail-welcome-code-pin-text =
    Guten Tag { $first_name },

    ab jetzt braucht eine Anmeldung mit Ihrem Benutzernamen { $username } einen Code Ihrer Authenticator-App oder Ihres Tokens und Ihre PIN. Richten Sie es hier ein:
    { $portal_url }

mail-welcome-enrol-subject = Richten Sie Ihren zweiten Faktor für { $company } ein
mail-welcome-enrol-text =
    Guten Tag { $first_name },

    für die Anmeldung mit Ihrem Benutzernamen { $username } brauchen Sie bald einen zweiten Faktor. Richten Sie ihn hier ein:
    { $portal_url }

mail-welcome-enrol-pin-subject = Richten Sie Ihren zweiten Faktor für { $company } ein
mail-welcome-enrol-pin-text =
    Guten Tag { $first_name },

    für die Anmeldung mit Ihrem Benutzernamen { $username } brauchen Sie bald einen zweiten Faktor und eine PIN. Richten Sie beides hier ein:
    { $portal_url }

mail-updated-subject = Ihre Anmeldung bei { $company } wurde geändert
mail-updated-text =
    Guten Tag { $first_name },

    eine Administratorin oder ein Administrator hat geändert, wie Sie sich mit Ihrem Benutzernamen { $username } anmelden. Hier sehen Sie es:
    { $portal_url }

    Wenn Sie das überrascht, sagen Sie Ihrer Administration Bescheid.

mail-invitation-subject = Ihre Einladung von { $company }
mail-invitation-text =
    Guten Tag { $first_name },

    richten Sie Ihren zweiten Faktor für den Benutzernamen { $username } hier ein:
    { $link }

    Der Link gilt einmal, bis { $link_expires }. Geben Sie ihn niemandem weiter.

mail-initial-pin-subject = Ihre erste PIN für { $company }
mail-initial-pin-text =
    Guten Tag { $first_name },

    Ihre erste PIN für den Benutzernamen { $username } ist { $initial_pin }. Wenn Sie sie benutzen, wählen Sie eine andere, spätestens am { $until }.

mail-pin-reset-subject = Ihre PIN für { $company } wurde zurückgesetzt
mail-pin-reset-text =
    Guten Tag { $first_name },

    Ihre PIN für den Benutzernamen { $username } wurde am { $time } zurückgesetzt. Bei der nächsten Anmeldung wählen Sie eine neue.

    Wenn Sie das überrascht, sagen Sie Ihrer Administration Bescheid.

mail-method-added-subject = Ein Weg zur Anmeldung kam hinzu
mail-method-added-text =
    Guten Tag { $first_name },

    { $method } kam am { $time } zu Ihrem Benutzernamen { $username } hinzu.

    Waren das nicht Sie, sagen Sie Ihrer Administration sofort Bescheid.

mail-method-removed-subject = Ein Weg zur Anmeldung wurde entfernt
mail-method-removed-text =
    Guten Tag { $first_name },

    { $method } wurde am { $time } von Ihrem Benutzernamen { $username } entfernt.

    Waren das nicht Sie, sagen Sie Ihrer Administration sofort Bescheid.

mail-phone-changed-subject = Ihre Telefonnummer wurde geändert
mail-phone-changed-text =
    Guten Tag { $first_name },

    die Telefonnummer Ihres Benutzernamens { $username } wurde am { $time } geändert. Sie endet jetzt so: { $phone_masked }

    Waren das nicht Sie, sagen Sie Ihrer Administration sofort Bescheid.

mail-bypass-issued-subject = Sie dürfen sich ohne zweiten Faktor anmelden
mail-bypass-issued-text =
    Guten Tag { $first_name },

    { $admin } hat Ihrem Benutzernamen { $username } erlaubt, sich bis { $until } ohne den üblichen zweiten Faktor anzumelden.
    Grund: { $reason }

    Wenn Sie nicht darum gebeten haben, sagen Sie Ihrer Administration sofort Bescheid.

mail-blocked-subject = Ihre Anmeldung ist gesperrt
mail-blocked-text =
    Guten Tag { $first_name },

    Ihr Benutzername { $username } ist seit { $time } gesperrt.
    Grund: { $reason }

    Ihre Administration kann ihn entsperren.

mail-unblocked-subject = Ihre Anmeldung ist entsperrt
mail-unblocked-text =
    Guten Tag { $first_name },

    seit { $time } können Sie sich mit Ihrem Benutzernamen { $username } wieder anmelden.

mail-locked-subject = Zu viele falsche Versuche
mail-locked-text =
    Guten Tag { $first_name },

    mit Ihrem Benutzernamen { $username } gab es zu viele falsche Versuche, zuletzt am { $time } bei { $application }. Er ist gesperrt bis { $until }.

    Waren das nicht Sie, kennt vielleicht jemand Ihr Passwort: Ändern Sie es und sagen Sie Ihrer Administration Bescheid.

mail-recovery-low-subject = Wenige Wiederherstellungscodes sind übrig
mail-recovery-low-text =
    Guten Tag { $first_name },

    Sie haben die meisten Wiederherstellungscodes Ihres Benutzernamens { $username } verbraucht. Neue erstellen Sie hier:
    { $portal_url }

mail-password-known-subject = Vielleicht kennt jemand Ihr Passwort
mail-password-known-text =
    Guten Tag { $first_name },

    jemand hat mehrmals das richtige Passwort Ihres Benutzernamens { $username } eingegeben und ist dann am zweiten Faktor gescheitert, zuletzt am { $time } bei { $application } von { $place }.

    Waren das nicht Sie, ändern Sie jetzt Ihr Passwort und sagen Sie Ihrer Administration Bescheid.

mail-blocked-admins-subject = Ein Benutzer ist gesperrt
mail-blocked-admins-text =
    { $username } ist seit { $time } gesperrt, bis { $until }.
    Durch: { $admin }
    Grund: { $reason }

mail-locked-admins-subject = Ein Benutzer ist nach zu vielen falschen Versuchen gesperrt
mail-locked-admins-text =
    Bei { $username } gab es zu viele falsche Versuche, zuletzt am { $time } bei { $application } von { $place }. Der Benutzer ist gesperrt bis { $until }.

    Geht es weiter, fragen Sie nach und sehen Sie in: twinlock audit tail

mail-password-known-admins-subject = Vielleicht kennt jemand das Passwort eines Benutzers
mail-password-known-admins-text =
    Jemand hat mehrmals das richtige Passwort von { $username } eingegeben und ist dann am zweiten Faktor gescheitert, zuletzt am { $time } bei { $application } von { $place }.

    Fragen Sie nach. War es jemand anderes, muss das Passwort jetzt geändert werden.

mail-sync-approval-subject = Eine Änderung aus dem Verzeichnis wartet auf Freigabe
mail-sync-approval-text =
    Eine Synchronisation will mehr Benutzer sperren, entfernen oder ausnehmen, als ohne Freigabe erlaubt ist.
    Grund: { $reason }
    { $detail }

    Sie bleiben, wie sie sind, bis jemand entscheidet; alles andere geht weiter.

    1. Ansehen, wer es ist und warum: { $link }
    2. Hat das jemand im Verzeichnis so gewollt? Dann alle freigeben oder nur einige.
    3. Ist es ein Fehler im Verzeichnis oder in den Sync-Einträgen? Dann ablehnen und ihn beheben: Wer wieder gefunden wird, bleibt.

    Eine Liste, über die niemand entscheidet, verfällt nach einigen Tagen. Auf dem Rechner: twinlock sync approvals, dann twinlock sync approve oder twinlock sync refuse

mail-sync-failed-subject = Eine Synchronisation ist gescheitert
mail-sync-failed-text =
    Eine Synchronisation ist am { $time } gescheitert.
    Grund: { $reason }
    { $detail }

mail-sync-phone-back-subject = Eine Telefonnummer ist wieder die frühere
mail-sync-phone-back-text =
    Die Synchronisation hat die Telefonnummer von { $username } am { $time } auf die geändert, die sie kurz zuvor war.
    { $detail }
    Vielleicht sind sich Server des Verzeichnisses nicht einig, oder jemand hat für eine Weile eine andere Nummer benutzt.

mail-sync-enabled-again-subject = Jemand wurde kurz nach der Sperrung wieder freigegeben
mail-sync-enabled-again-text =
    Die Synchronisation hat { $username } am { $time } wieder freigegeben.
    { $detail }
    Vielleicht sind sich Server des Verzeichnisses nicht einig. Soll die Person draußen bleiben, sperren Sie sie hier: twinlock user disable

mail-sync-name-doubled-subject = Zwei Einträge des Verzeichnisses haben denselben Benutzernamen
mail-sync-name-doubled-text =
    Die Synchronisation hat den Benutzernamen { $username } am { $time } zweimal gefunden.
    { $detail }
    Geben Sie einem der Einträge einen anderen Benutzernamen. Ansehen: twinlock sync history

mail-fraud-subject = Eine Person meldet eine fremde Anmeldung
mail-fraud-text =
    { $username } meldet eine Anmeldung bei { $application } als fremd, am { $time }, von { $place }.

    Vielleicht kennt jemand das Passwort dieser Person. Ansehen: twinlock audit tail

mail-fail-open-subject = Jemand kam ohne zweiten Faktor hinein
mail-fail-open-text =
    Die Prüfung war ausgefallen, und { $application } lässt dann ein. { $username } kam am { $time } von { $place } mit dem Passwort allein hinein.
