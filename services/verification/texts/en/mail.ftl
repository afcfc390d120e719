# Mails, a subject and a text for each kind. Empty lines part paragraphs; the HTML is made of the text.

mail-test-subject = Test message of { $company }
mail-test-text =
    This is a test message of { $company }.

    Nothing has to be done.

mail-welcome-call-subject = Signing in to { $company } now takes your phone
mail-welcome-call-text =
    Hello { $first_name },

    from now on a sign-in with your user name { $username } is confirmed by phone. After your password we call you at { $phone_masked }. Answer and press #.

    If we call and you are not signing in, hang up and tell your administrator.

mail-welcome-call-pin-subject = Signing in to { $company } now takes your phone
mail-welcome-call-pin-text =
    Hello { $first_name },

    from now on a sign-in with your user name { $username } is confirmed by phone. After your password we call you at { $phone_masked }. Answer, enter your PIN and press #.

    If we call and you are not signing in, hang up and tell your administrator.

mail-welcome-sms-subject = Signing in to { $company } now takes your phone
mail-welcome-sms-text =
    Hello { $first_name },

    from now on a sign-in with your user name { $username } takes a code. After your password we send it to { $phone_masked } as a text message. Enter it where you sign in.

    We never ask for this code in any other way.

mail-welcome-sms-pin-subject = Signing in to { $company } now takes your phone
mail-welcome-sms-pin-text =
    Hello { $first_name },

    from now on a sign-in with your user name { $username } takes a code. After your password we send it to { $phone_masked } as a text message. Enter the code, then your PIN, where you sign in.

    We never ask for this code in any other way.

mail-welcome-push-subject = Signing in to { $company } now takes your phone
mail-welcome-push-text =
    Hello { $first_name },

    from now on a sign-in with your user name { $username } is approved on your phone. Set it up here:
    { $portal_url }

    Approve only what you began yourself.

mail-welcome-push-pin-subject = Signing in to { $company } now takes your phone
mail-welcome-push-pin-text =
    Hello { $first_name },

    from now on a sign-in with your user name { $username } is approved on your phone, with your PIN. Set it up here:
    { $portal_url }

    Approve only what you began yourself.

mail-welcome-code-subject = Signing in to { $company } now takes a code
mail-welcome-code-text =
    Hello { $first_name },

    from now on a sign-in with your user name { $username } takes a code of your authenticator app or token. Set it up here:
    { $portal_url }

mail-welcome-code-pin-subject = Signing in to { $company } now takes a code
mail-welcome-code-pin-text =
    Hello { $first_name },

    from now on a sign-in with your user name { $username } takes a code of your authenticator app or token, and your PIN. Set it up here:
    { $portal_url }

mail-welcome-enrol-subject = Set up your second factor for { $company }
mail-welcome-enrol-text =
    Hello { $first_name },

    signing in with your user name { $username } will soon take a second factor. Set it up here:
    { $portal_url }

mail-welcome-enrol-pin-subject = Set up your second factor for { $company }
mail-welcome-enrol-pin-text =
    Hello { $first_name },

    signing in with your user name { $username } will soon take a second factor and a PIN. Set them up here:
    { $portal_url }

mail-updated-subject = Your sign-in at { $company } was changed
mail-updated-text =
    Hello { $first_name },

    an administrator changed how you sign in with your user name { $username }. You see it here:
    { $portal_url }

    If this surprises you, tell your administrator.

mail-invitation-subject = Your invitation to { $company }
mail-invitation-text =
    Hello { $first_name },

    set up your second factor for the user name { $username } here:
    { $link }

    The link works once, until { $link_expires }. Nobody else may have it.

mail-initial-pin-subject = Your first PIN for { $company }
mail-initial-pin-text =
    Hello { $first_name },

    your first PIN for the user name { $username } is { $initial_pin }. You choose another one when you use it, at the latest on { $until }.

mail-pin-reset-subject = Your PIN for { $company } was reset
mail-pin-reset-text =
    Hello { $first_name },

    your PIN for the user name { $username } was reset on { $time }. You choose a new one at your next sign-in.

    If this surprises you, tell your administrator.

mail-method-added-subject = A way to sign in was added
mail-method-added-text =
    Hello { $first_name },

    { $method } was added to your user name { $username } on { $time }.

    If this was not you, tell your administrator at once.

mail-method-removed-subject = A way to sign in was removed
mail-method-removed-text =
    Hello { $first_name },

    { $method } was removed from your user name { $username } on { $time }.

    If this was not you, tell your administrator at once.

mail-phone-changed-subject = Your phone number was changed
mail-phone-changed-text =
    Hello { $first_name },

    the phone number of your user name { $username } was changed on { $time }. It now ends like this: { $phone_masked }

    If this was not you, tell your administrator at once.

mail-bypass-issued-subject = You may sign in without your second factor
mail-bypass-issued-text =
    Hello { $first_name },

    { $admin } allowed your user name { $username } to sign in without the usual second factor until { $until }.
    Reason: { $reason }

    If you did not ask for this, tell your administrator at once.

mail-blocked-subject = Your sign-in is blocked
mail-blocked-text =
    Hello { $first_name },

    your user name { $username } is blocked since { $time }.
    Reason: { $reason }

    Your administrator can unblock it.

mail-unblocked-subject = Your sign-in is unblocked
mail-unblocked-text =
    Hello { $first_name },

    your user name { $username } can sign in again since { $time }.

mail-locked-subject = Too many wrong tries
mail-locked-text =
    Hello { $first_name },

    there were too many wrong tries to sign in with your user name { $username }, the last one on { $time } at { $application }. It is locked until { $until }.

    If these were not you, somebody may know your password: change it and tell your administrator.

mail-recovery-low-subject = Few recovery codes are left
mail-recovery-low-text =
    Hello { $first_name },

    you have used most of the recovery codes of your user name { $username }. Make new ones here:
    { $portal_url }

mail-password-known-subject = Somebody may know your password
mail-password-known-text =
    Hello { $first_name },

    somebody entered the right password of your user name { $username } several times and then failed at the second factor, the last time on { $time } at { $application } from { $place }.

    If this was not you, change your password now and tell your administrator.

mail-blocked-admins-subject = A user is blocked
mail-blocked-admins-text =
    { $username } is blocked since { $time }, until { $until }.
    By: { $admin }
    Reason: { $reason }

mail-locked-admins-subject = A user is locked after too many wrong tries
mail-locked-admins-text =
    There were too many wrong tries to sign in as { $username }, the last one on { $time } at { $application } from { $place }. The user is locked until { $until }.

    If it goes on, ask the user and look at: twinlock audit tail

mail-password-known-admins-subject = Somebody may know a user's password
mail-password-known-admins-text =
    Somebody entered the right password of { $username } several times and then failed at the second factor, the last time on { $time } at { $application } from { $place }.

    Ask the user. If it was somebody else, the password has to be changed now.

mail-sync-approval-subject = A directory change waits for approval
mail-sync-approval-text =
    A synchronisation wants to disable, remove or exempt more users than is allowed without approval.
    Reason: { $reason }
    { $detail }

    They stay as they are until somebody decides; what else changed goes on.

    1. Look at who they are, and why: { $link }
    2. Is it what somebody did in the directory? Then approve all of them, or only some.
    3. Is it a mistake in the directory or in the sync items? Then refuse, and mend it: whoever is found again stays.

    A list that nobody decides becomes void after some days. On the host: twinlock sync approvals, then twinlock sync approve or twinlock sync refuse

mail-sync-failed-subject = A synchronisation failed
mail-sync-failed-text =
    A synchronisation failed on { $time }.
    Reason: { $reason }
    { $detail }

mail-sync-phone-back-subject = A phone number went back to what it was
mail-sync-phone-back-text =
    Synchronisation changed the phone number of { $username } on { $time }, to what it was shortly before.
    { $detail }
    Servers of the directory may disagree, or somebody has used another number for a while.

mail-sync-enabled-again-subject = Somebody was enabled again soon after they were disabled
mail-sync-enabled-again-text =
    Synchronisation enabled { $username } again on { $time }.
    { $detail }
    Servers of the directory may disagree. If the person is to stay out, disable them here: twinlock user disable

mail-sync-name-doubled-subject = Two entries of the directory have one username
mail-sync-name-doubled-text =
    Synchronisation found the username { $username } twice on { $time }.
    { $detail }
    Give one of the entries another username. Look at it: twinlock sync history

mail-fraud-subject = A person reported a sign-in that was not theirs
mail-fraud-text =
    { $username } reported a sign-in to { $application } as not theirs, on { $time }, from { $place }.

    The password of this user may be known to somebody else. Look at it: twinlock audit tail

mail-fail-open-subject = Somebody was let in without a second factor
mail-fail-open-text =
    Verification was down, and { $application } is set to let people in then. { $username } was let in on { $time } from { $place } with the password alone.
