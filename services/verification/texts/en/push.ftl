# What a locked phone shows when a sign-in waits. No name, no application, no place.
push-title = Sign-in request
push-body = Tap to see who is signing in, and answer.
