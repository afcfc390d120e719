# What the app on the phone says.
app-name = Sign-in
footer = Protected by Twinlock

wait-title = No sign-in is waiting
wait-lead = When you sign in somewhere, the request appears here.
wait-open = This page looks for requests by itself while it is open.
account = Account
notify-title = Hear of requests at once
notify-lead = Allow notifications, so that this phone tells you when a sign-in waits.
notify-button = Turn on notifications
notify-denied = Notifications are blocked in the settings of this browser. Requests appear while this page is open.
home-title = Keep it on the Home Screen
home-lead = On an iPhone or iPad, notifications come only to the app on the Home Screen: tap Share, then “Add to Home Screen”, and open it from there.

codes-title = Without a network
codes-lead = This phone also makes codes, for when no request arrives. They need no network.
codes-button = Show a code

none-title = This phone is not connected
none-lead = Connect it to your account to approve sign-ins here.
none-button = Connect this phone

prompt-title = Are you signing in?
prompt-new = A sign-in is waiting for your answer.
application = Application
user = User
place = From
place-unknown = not known
time = Time
left = Time left
seconds = seconds
number-label = Number shown where you sign in
number-help = Type the two digits you see on the other screen.
pin-label = PIN
approve = Approve
deny = No, refuse
fraud = This was not me
fraud-help = Refuses, blocks your account for new sign-ins and tells your administrators.
signing = Confirm on this phone …

approved-title = Approved
approved-lead = You can go back to where you sign in.
denied-title = Refused
denied-lead = The sign-in was refused. New requests have to wait a moment.
fraud-title = Reported
fraud-lead = The sign-in was refused and reported. Somebody may know your password: change it, and talk to your help desk.
gone-title = It is over
gone-lead = This request was answered elsewhere, or its time ran out.
failed-title = Not taken
done = Done
expiring = This request ends in a few seconds.

activate-title = Connect this phone
activate-lead = Type the code that the portal shows, or scan its QR code with the camera.
code-label = Code
code-help = 26 letters and digits. Spaces and dashes do not matter.
activate-next = Continue
activate-confirm-title = Connect to this account?
activate-confirm-lead = Only go on if you started this yourself a moment ago.
company = Company
device-name = Name of this phone
device-name-default = My phone
activate-button = Connect
activate-passkey = This phone makes a passkey for approvals. Your fingerprint, face or screen lock never leaves it.
activate-without = No passkey could be made. Approvals from this phone are signed by a simpler key.
activate-without-button = Go on without a passkey
activate-working = Connecting …
activate-done-title = Connected
activate-done-lead = One test request follows. Approve it, and the phone counts.
activate-done-button = Go on
activate-pin = Some applications ask for your PIN beside the approval.
activate-failed-title = Not connected

offline-title = No network
offline-lead = This phone cannot reach the server. Codes work without a network.
offline-button = Try again
no-script = This app needs JavaScript.

reason-wrong-number = That was not the number on the other screen. The request is over; sign in again.
reason-wrong-pin = The PIN was wrong. Try again.
reason-locked-out = Too many wrong PINs. Ask your help desk.
reason-challenge-gone = The request or code is over, or was used already.
reason-not-enrolled = This phone is not connected any more.
reason-blocked = Your account is blocked. Ask your help desk.
reason-rate-limited = Too many requests in a short time. Wait a moment.
reason-no-usable-method = This is not possible with this phone.
reason-passkey-refused = The passkey was not used. Try again.
reason-number-missing = Type the two digits of the other screen first.
reason-pin-missing = Type your PIN first.
reason-no-network = No connection. Try again in a moment.
reason-other = It did not work. Try again in a moment.
