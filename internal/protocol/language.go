package protocol

// Language is the peer's language (wire.md section 4). A number that names none
// is kept.
type Language uint8

// The languages that peers name (wire.md section 4).
const (
	LangJava Language = iota
	LangCPP
	LangDotNet
	LangPython
	LangDelphi
	LangErlang
	LangRuby
	LangOther
	LangHTTP
	LangGo
	LangPHP
	LangOMS
	LangRust
	LangNodeJS
)

var languages = [...]string{"JAVA", "CPP", "DOTNET", "PYTHON", "DELPHI", "ERLANG", "RUBY", "OTHER", "HTTP", "GO", "PHP", "OMS", "RUST", "NODE_JS"}

// String is the name on the wire, OTHER for a language that is not known.
func (l Language) String() string {
	if int(l) < len(languages) {
		return languages[l]
	}
	return languages[LangOther]
}

// languageOf is the language with that name, OTHER for one that is not known.
func languageOf(name []byte) Language {
	for i, s := range languages {
		if string(name) == s {
			return Language(i)
		}
	}
	return LangOther
}
