module gomq

go 1.26
