// Package config declares configuration keys once and does everything with
// them: loads Java properties files, says what is wrong with one and where,
// prints what is in effect, writes the reference page, and applies updates to
// a running process. It knows no key itself; each role has its table
// (broker.Keys, namesrv.Keys).
package config
