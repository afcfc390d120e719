# What a device shows with an Access-Challenge. One Reply-Message holds 253 octets.

challenge-code = Enter your code
challenge-code-sms = Enter the code sent to { $destination }
challenge-code-recovery = Enter one of your recovery codes
challenge-code-and-pin = Enter your code and directly behind it your PIN
challenge-code-and-pin-sms = Enter the code sent to { $destination } and directly behind it your PIN
challenge-new-pin = Choose a new PIN
challenge-new-pin-again = Enter the new PIN again
challenge-choice = How do you want to sign in? Enter a number
challenge-choice-push = Approve in the app
challenge-choice-call = Phone call
challenge-choice-sms = Text message
challenge-choice-sms-reply = Text message that you answer
challenge-choice-code = Code of the app or token
challenge-choice-recovery = Recovery code
challenge-approval = Approve the sign-in on your phone, then press Enter
challenge-approval-number = Choose { $number } in your app, then press Enter
challenge-approval-call = We are calling { $destination }. Answer, then press Enter
challenge-approval-sms-reply = Answer the text sent to { $destination }, then press Enter

# What came of the answer before, in front of the next question.
challenge-after-wrong-code = The code was wrong.
# Stands alone where a code of the app or token is asked for.
challenge-after-reused-code = This code was used before. Wait for the next one and enter it
challenge-after-wrong-pin = The PIN was wrong.
challenge-after-new-pin = This PIN cannot be used, or the two were not the same.
challenge-after-choice = This is none of the numbers.
challenge-after-no-answer = Nobody answered.
challenge-after-no-contact = Your phone could not be reached.
challenge-after-provider-error = Nothing could be sent to you.
challenge-after-other = That did not work.
