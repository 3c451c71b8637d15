"""The files of the sample household, made by `bursar.genie.household.sample`."""
