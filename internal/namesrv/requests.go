package namesrv

import (
	"slices"

	"gomq/internal/protocol"
)

// Request is a row of the table of requests as documentation shows it.
type Request struct {
	Code    int32
	Name    string
	Lane    string // where it runs
	NotYet  string // why it is answered REQUEST_CODE_NOT_SUPPORTED; empty: it is served
	Differs string // how what is served is not as in 4.9; empty: it is the same
}

// Requests is the table of requests, by code.
func Requests() []Request {
	var out []Request
	for code, r := range routes {
		lane := "inline"
		if r.lane {
			lane = "files"
		}
		out = append(out, Request{Code: code, Name: protocol.RequestName(code), Lane: lane, Differs: r.differs})
	}
	slices.SortFunc(out, func(a, b Request) int { return int(a.Code - b.Code) })
	return out
}
