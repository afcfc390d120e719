sms-code = { $code } is your code for { $application }. Nobody from IT will ask you for it.
sms-reply = Sign-in to { $application }: reply with { $code } to approve it. Not you? Do not reply, and tell your IT.
sms-reply-pin = Sign-in to { $application }: reply with { $code } and your PIN to approve it. Not you? Do not reply, and tell your IT.
