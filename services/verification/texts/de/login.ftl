sms-code = { $code } ist Ihr Code für { $application }. Niemand aus der IT wird Sie danach fragen.
sms-reply = Anmeldung bei { $application }: Antworten Sie mit { $code }, um sie zu bestätigen. Nicht Sie? Dann antworten Sie nicht und sagen Sie der IT Bescheid.
sms-reply-pin = Anmeldung bei { $application }: Antworten Sie mit { $code } und Ihrer PIN, um sie zu bestätigen. Nicht Sie? Dann antworten Sie nicht und sagen Sie der IT Bescheid.
