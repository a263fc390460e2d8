"""What a person sees while waiting: progress bars, stages and tables. No element or resource is known here."""
