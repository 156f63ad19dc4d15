"""The demo: a federation on real data, shown live, checked, and written up.

`run` puts it together; `view` is the live picture, `result` what is kept, `picture` what an
update gives away, and `report` the page.
"""
