# What people read as a text message. No sign outside of the GSM alphabet: one message has 160 signs, and one with such a sign 70.

sms-code = { $code } is your code for { $application }. Never tell it to anybody.
sms-code-pin = { $code } is your code for { $application }. Enter the code, then your PIN. Never tell it to anybody.
sms-reply = Sign-in to { $application }: reply to this text with { $code } to approve it. Not you? Do not reply.
sms-reply-pin = Sign-in to { $application }: reply to this text with { $code } and your PIN to approve it. Not you? Do not reply.
sms-proof = { $code } is the code that proves your number to { $company }.
sms-trial = This is a test message of { $company }. Nothing has to be done.
# Phones fill the code in where this line stands last: the host that asks for it, and the code.
sms-fill-in = @{ $host } #{ $code }
