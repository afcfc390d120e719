# What a phone call says. Keep each below twenty seconds.

voice-greeting = Hello. This is { $company }. Somebody is signing in to { $application } with your account. If this is you, press the pound key.
voice-greeting-pin = Hello. This is { $company }. Somebody is signing in to { $application } with your account. If this is you, enter your PIN, then press the pound key.
voice-retry = That was not understood. To confirm the sign-in, press the pound key.
voice-retry-pin = That PIN was not right. Please enter your PIN again, then press the pound key.
voice-fraud-hint = If this is not you, press { $fraud_code }.
voice-fraud-hint-pin = If this is not you, press { $fraud_code }, then the pound key.
voice-activation = Hello. This is { $company }. Somebody wants to use this phone to confirm sign-ins. If this is you, press the pound key.
voice-activation-pin = Hello. This is { $company }. Somebody wants to use this phone to confirm sign-ins. If this is you, enter your PIN, then press the pound key.
voice-fraud-confirm = To report that somebody else is signing in with your account, press 1. To go back, press 2.
voice-fraud-done = Thank you. The sign-in was stopped and reported. Please change your password. Goodbye.
voice-extension-before = This call is for an extension, which is dialled now.
voice-extension-after = Please hold the line.
voice-new-pin = Your PIN has to be changed. Enter a new PIN, press the star key, enter the same PIN again, then press the pound key.
voice-new-pin-refused = This PIN cannot be used. Both entries must be the same, and the PIN must be new and hard to guess.
voice-success = Thank you. The sign-in is confirmed. Goodbye.
voice-denied = The sign-in was not confirmed. Goodbye.
voice-gone = Nobody is waiting for this sign-in any more. Goodbye.
voice-test = Hello. This is a test call by { $company }. Calls work. Goodbye.
