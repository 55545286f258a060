module richwall

go 1.26
