package main

import (
	"gomq/internal/broker"
	"gomq/internal/namesrv"
)

// requests are the rows of both roles' tables.
func requests() []request {
	var out []request
	for _, r := range namesrv.Requests() {
		out = append(out, request{Role: "namesrv", Code: r.Code, Name: r.Name, Served: r.NotYet == "", Note: r.NotYet})
	}
	for _, r := range broker.Requests() {
		out = append(out, request{Role: "broker", Code: r.Code, Name: r.Name, Served: r.NotYet == "", Note: r.NotYet})
	}
	return out
}
