"""What each verb does, one file each; :mod:`linglos_deploy.api` offers them to Python users and commands."""
