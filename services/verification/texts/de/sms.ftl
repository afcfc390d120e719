sms-code = { $code } ist Ihr Code für { $application }. Geben Sie ihn niemandem weiter.
sms-code-pin = { $code } ist Ihr Code für { $application }. Geben Sie den Code und dann Ihre PIN ein. Geben Sie beides niemandem weiter.
sms-reply = Anmeldung bei { $application }: Antworten Sie mit { $code }, um sie zu bestätigen. Nicht Sie? Dann nicht antworten.
sms-reply-pin = Anmeldung bei { $application }: Antworten Sie mit { $code } und Ihrer PIN, um sie zu bestätigen. Nicht Sie? Dann nicht antworten.
sms-proof = { $code } ist der Code, der Ihre Nummer gegenüber { $company } nachweist.
sms-trial = Dies ist eine Testnachricht von { $company }. Es ist nichts zu tun.
sms-fill-in = @{ $host } #{ $code }
