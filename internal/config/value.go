package config

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// units of durations as they are written in files.
var units = map[string]time.Duration{"ms": time.Millisecond, "s": time.Second, "h": time.Hour}

var (
	errBool  = errors.New("is neither true nor false")
	errBlank = errors.New("ends with a blank, which a Java properties file keeps as part of the value; remove it")
)

// set parses value as a file has it and stores it into the key's field. It
// returns the note of a value that was moved into its range.
func (k *Key) set(value string) (note string, err error) {
	if value != strings.TrimRight(value, " \t\f") {
		return "", errBlank
	}
	if value, note, err = k.inRange(value); err != nil {
		return "", err
	}
	if k.Check != nil {
		if err := k.Check(value); err != nil {
			return "", err
		}
	}
	return note, k.store(value)
}

func (k *Key) store(value string) error {
	switch f := k.Field.(type) {
	case nil:
		return k.wellFormed(value)
	case *string:
		*f = value
	case *bool:
		v, err := parseBool(value)
		if err != nil {
			return err
		}
		*f = v
	case **bool:
		return storeMaybe(f, value)
	case *[]string:
		*f = splitList(value)
	case *time.Duration:
		n, err := k.number(value, math.MaxInt64/int64(units[k.Unit]))
		if err != nil {
			return err
		}
		*f = time.Duration(n) * units[k.Unit]
	case *int:
		n, err := k.number(value, math.MaxInt)
		if err != nil {
			return err
		}
		*f = int(n)
	case *int32:
		n, err := k.number(value, math.MaxInt32)
		if err != nil {
			return err
		}
		*f = int32(n)
	case *int64:
		n, err := k.number(value, math.MaxInt64)
		if err != nil {
			return err
		}
		*f = n
	default:
		v := reflect.ValueOf(k.Field)
		if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.String {
			return fmt.Errorf("the table binds it to a %T, which config cannot store", k.Field)
		}
		v.Elem().SetString(value)
	}
	return nil
}

// wellFormed checks the value of a key that nothing reads: what does not parse
// is a mistake there too. Empty is the value of a key that is not set.
func (k *Key) wellFormed(value string) error {
	var err error
	switch {
	case value == "":
	case k.Type == "int":
		_, err = k.number(value, math.MaxInt64)
	case k.Type == "bool":
		_, err = parseBool(value)
	}
	return err
}

func storeMaybe(f **bool, value string) error {
	if value == "" {
		*f = nil
		return nil
	}
	v, err := parseBool(value)
	if err == nil {
		*f = &v
	}
	return err
}

// parseBool knows true and false in any case. Java reads everything else,
// "yes", "1" and "true " included, silently as false; here it is an error.
func parseBool(value string) (bool, error) {
	switch strings.ToLower(value) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, errBool
}

func splitList(value string) []string {
	var list []string
	for _, item := range strings.Split(value, ";") {
		if item = strings.TrimSpace(item); item != "" {
			list = append(list, item)
		}
	}
	return list
}

// number reads decimal digits with an optional sign, as Java does: no units, no
// arithmetic, no comment behind it.
func (k *Key) number(value string, most int64) (int64, error) {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n > most {
		what := "is not a whole number (digits only, no unit or comment behind them)"
		if errors.Is(err, strconv.ErrRange) || err == nil {
			what = "is too large"
		}
		if k.Unit != "" {
			what += "; it counts " + unitName(k.Unit)
		}
		return 0, errors.New(what)
	}
	return n, nil
}

func unitName(unit string) string {
	switch unit {
	case "ms":
		return "milliseconds"
	case "s":
		return "seconds"
	case "h":
		return "hours"
	case "B":
		return "bytes"
	case "%":
		return "percent"
	}
	return unit
}

// inRange enforces Range: "lo..hi" with either end open, or names between bars.
func (k *Key) inRange(value string) (_, note string, err error) {
	if k.Range == "" {
		return value, "", nil
	}
	lo, hi, isNumber := strings.Cut(k.Range, "..")
	if !isNumber {
		for _, name := range strings.Split(k.Range, "|") {
			if strings.TrimSpace(name) == value {
				return value, "", nil
			}
		}
		return "", "", fmt.Errorf("must be one of %s, exactly so", strings.Join(strings.Fields(k.Range), " "))
	}
	n, err := k.number(value, math.MaxInt64)
	if err != nil {
		return "", "", err
	}
	edge := value
	if least, err := strconv.ParseInt(lo, 10, 64); err == nil && n < least {
		edge = lo
	}
	if most, err := strconv.ParseInt(hi, 10, 64); err == nil && n > most {
		edge = hi
	}
	if edge == value {
		return value, "", nil
	}
	if !k.Clamp {
		return "", "", fmt.Errorf("is outside %s", k.rangeText())
	}
	return edge, fmt.Sprintf("is outside %s and taken as %s", k.rangeText(), edge), nil
}

func (k *Key) rangeText() string {
	text := k.Range
	if lo, ok := strings.CutSuffix(text, ".."); ok {
		text = lo + " or more"
	}
	if k.Unit != "" && strings.Contains(k.Range, "..") {
		text += " " + unitName(k.Unit)
	}
	return text
}

// value gives the field as a file would have it.
func (k *Key) value() string {
	switch f := k.Field.(type) {
	case *string:
		return *f
	case *bool:
		return strconv.FormatBool(*f)
	case **bool:
		if *f == nil {
			return ""
		}
		return strconv.FormatBool(**f)
	case *[]string:
		return strings.Join(*f, ";")
	case *time.Duration:
		return strconv.FormatInt(int64(*f/units[k.Unit]), 10)
	case *int:
		return strconv.Itoa(*f)
	case *int32:
		return strconv.FormatInt(int64(*f), 10)
	case *int64:
		return strconv.FormatInt(*f, 10)
	}
	return reflect.ValueOf(k.Field).Elem().String()
}

// typeName is the key's type in the words of config.md.
func (k *Key) typeName() string {
	switch k.Field.(type) {
	case nil:
		return k.Type
	case *bool, **bool:
		return "bool"
	case *time.Duration, *int, *int32, *int64:
		return "int"
	case *[]string:
		return "list"
	}
	if strings.Contains(k.Range, "|") {
		return "enum"
	}
	return "string"
}
