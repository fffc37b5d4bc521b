"""One task a module or a folder: its name is the task's, and so is that of the :class:`~..task.Task` in it."""
