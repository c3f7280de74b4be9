package config

// Source is the text that options were read from: the properties file of the
// command line. It is kept so that an update over the network can rewrite the
// file without losing its comments.
type Source struct {
	File  string // empty: no file was given
	lines []line
}

type line struct{}
