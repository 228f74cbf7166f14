"""What the pages say is true: tables agree with the code, links lead somewhere, configurations load.

`pages`: finds the pages and reads links, code blocks and tables out of them.
"""
