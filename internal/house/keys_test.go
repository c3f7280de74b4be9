package house_test

import (
	"go/ast"
	"path"
	"reflect"
	"strings"
	"testing"

	"gomq/internal/broker"
	"gomq/internal/config"
	"gomq/internal/namesrv"
)

// readFields returns the names that are selected from anything in the files of a
// room, of what the roles have in common and of the command, other than the files that declare keys.
func readFields(t *testing.T, room string) map[string]bool {
	t.Helper()
	_, files := sources(t)
	read := map[string]bool{}
	for _, f := range files {
		base := path.Base(f.path)
		inRoom := (path.Dir(f.path) == "internal/"+room || path.Dir(f.path) == "internal/role") && !strings.HasPrefix(base, "keys") && base != "options.go"
		if !inRoom && path.Dir(f.path) != "cmd/gomq" {
			continue
		}
		ast.Inspect(f.File, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				read[s.Sel.Name] = true
			}
			return true
		})
	}
	return read
}

// fieldOf is the name of the field of o that the key stores into.
func fieldOf(o any, k *config.Key) string {
	v := reflect.ValueOf(o).Elem()
	at := reflect.ValueOf(k.Field).Pointer()
	for i := range v.NumField() {
		if v.Type().Field(i).Anonymous {
			if name := fieldOf(v.Field(i).Addr().Interface(), k); name != "" {
				return name
			}
			continue
		}
		if v.Field(i).CanAddr() && v.Field(i).Addr().Pointer() == at && v.Field(i).Type() == reflect.TypeOf(k.Field).Elem() {
			return v.Type().Field(i).Name
		}
	}
	return ""
}

// inTable are fields that the table itself or the making of options acts on.
var inTable = map[string]string{
	"BrokerID": "a master's is 0", "HTTPPort": "read by the command under this name",
	"ConfigBlackList": "given to config.Live", "ConfigStorePath": "is the file of -c", "RocketmqHome": "kept for dumps",
	"ACLEnable": "true is refused", "EnableConsumeQueueExt": "true is refused",
}

// A key that says it works is read somewhere. What is not read must say that it
// has no effect or is not there yet.
func TestKeysAreRead(t *testing.T) {
	var bo broker.Options
	var no namesrv.Options
	for _, role := range []struct {
		room    string
		options any
		table   *config.Table
	}{{"broker", &bo, broker.Keys(&bo)}, {"namesrv", &no, namesrv.Keys(&no)}} {
		read := readFields(t, role.room)
		for _, name := range role.table.Names() {
			k := role.table.Key(name)
			if k.Field == nil {
				if k.Effect == config.Works {
					t.Errorf("%s: %s says that it works and has no field", role.room, name)
				}
				continue
			}
			field := fieldOf(role.options, k)
			switch {
			case field == "":
				t.Errorf("%s: %s stores into something that is no field of Options", role.room, name)
			case !strings.EqualFold(field, name) && !strings.Contains(name, "."):
				t.Errorf("%s: %s stores into %s; a field has the name of its key", role.room, name, field)
			case k.Effect == config.Works && !read[field] && inTable[field] == "":
				t.Errorf("%s: %s says that it works, and nothing reads %s", role.room, name, field)
			case k.Effect != config.Works && read[field] && k.Effect == config.NoEffect:
				t.Errorf("%s: %s says that it has no effect, and %s is read", role.room, name, field)
			}
		}
	}
}
