"""The verbs of the command line, on a real store in this process and on a running gateway.

- calling: one verb with its output, a gateway process, a stock client that may reach nothing else
- test_verbs, test_transfer: every noun on the store of a data directory
- test_lazy: a verb costs nothing until it is called
- test_remote: over the network; what is printed works in a stock client
- test_probing: the connection test against real servers and every failure
- test_shown, test_given: tables, references, times
- test_packaging: the unit and the container file
"""
