# What an app of the privacyIDEA protocol shows. One line each; a bar is left out.

pi-question = Sign in to { $application } as { $username }?
pi-question-place = Sign in to { $application } as { $username } from { $place }?
pi-activation = Use this phone to confirm sign-ins of { $username }?
