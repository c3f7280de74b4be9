package config

// Change says what an update of a running process may do with a key.
type Change uint8

const (
	Fixed   Change = iota // not over the network: paths, names, addresses, file sizes, security
	Restart               // written to the file, in effect at the next start
	Hot                   // in effect at once
)

// Effect says what gomq does with a key that it knows.
type Effect uint8

const (
	Works    Effect = iota // honoured
	NotYet                 // the feature is missing: a warning when the value asks for it
	NoEffect               // the original's thread pools, page counts and buffers: nothing here has them
)

// Key is one row of a role's table. Names, defaults and ranges are those of
// RocketMQ 4.9.8 (config.md sections 5-8) unless Doc says otherwise.
type Key struct {
	Name    string
	Aliases []Alias
	// Field points into the role's options: *string, *bool, *int, *int32,
	// *int64, *float64, *time.Duration (in Unit), *[]string (separated by ;),
	// **bool (empty: undecided), or a pointer to a named string type. nil: the
	// key is known and kept, nothing reads it.
	Field   any
	Default string        // as it is written in a file
	Auto    func() string // computes the default where it depends on the machine; Default then says in words what it is
	Type    string        // only where Field is nil: int, long, bool, String, ...
	Unit    string        // ms, s, h of durations; B, %, entries for the reader
	Range   string        // "10..95", "1..", "A | B": enforced
	Clamp   bool          // a number outside Range is moved to its edge with a warning, as the original does
	Doc     string        // one line
	Change  Change
	Tier    int // 1 in the users' files, 2 commonly tuned, 3 rare
	// Important keys are printed by -m.
	Important bool
	Effect    Effect
	// Missed says of a key without effect that whoever sets it counts on one: a
	// warning, not a note.
	Missed bool
	// Check says what is wrong with a value that has the right form; its error
	// refuses to start.
	Check func(value string) error
	// Env is an environment variable that is the default where it is set.
	Env string
}

// Alias is another spelling that means the key.
type Alias struct {
	Name string
	// Convert turns the alias's value into the key's; nil: the same.
	Convert func(value string) (string, error)
	// Note is said once at start when the alias is used.
	Note string
	// Quiet aliases are as good as the name itself; nothing is said.
	Quiet bool
}

// Section is a heading of the table and its keys, in the order in which they
// are printed and documented.
type Section struct {
	Title, Doc string
	Keys       []Key
}

// Level is how bad a problem is.
type Level uint8

const (
	Note    Level = iota // worth a line at start
	Warning              // config check fails on an unknown key, a start does not
	Fatal                // refuses to start
)

// Problem is something to say about one line of a file or one flag.
type Problem struct {
	Level   Level
	File    string // or the flag's name
	Line    int    // 0: no line
	Key     string
	Value   string
	Text    string // what is wrong and what to do
	Near    string // the nearest known key of an unknown one
	Unknown bool
}
