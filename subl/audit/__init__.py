"""The audit of the rows that a student is trained on: overt mentions, and how they differ from the control's."""
