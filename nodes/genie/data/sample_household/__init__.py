"""The files of the sample household, made by `bursar.nodes.genie.data.sample`."""
