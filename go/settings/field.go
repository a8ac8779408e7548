package settings

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// field is one setting as the struct's tags describe it.
type field struct {
	index       int
	key, kind   string
	defaultText string
	description string
}

var fields = describe()

func describe() []field {
	settings := reflect.TypeFor[Settings]()
	described := make([]field, settings.NumField())
	for i := range described {
		tag := settings.Field(i).Tag
		described[i] = field{i, tag.Get("key"), tag.Get("kind"), tag.Get("default"),
			tag.Get("desc")}
	}
	return described
}

func fieldOf(key string) *field {
	for i := range fields {
		if fields[i].key == key {
			return &fields[i]
		}
	}
	return nil
}

// Key describes one setting.
type Key struct {
	// Name is the key, Kind its form: dir, dirs, size, count, duration, name or the
	// values allowed.
	Name, Kind string
	// Default is the value that an empty setting has; empty where the library decides.
	Default string
	// Description is one sentence.
	Description string
}

// Keys lists every setting.
func Keys() []Key {
	keys := make([]Key, len(fields))
	for i, f := range fields {
		keys[i] = Key{f.key, f.kind, f.defaultText, f.description}
	}
	return keys
}

func (f *field) set(s *Settings, text string) error {
	text = strings.TrimSpace(text)
	if err := f.check(text); err != nil {
		return err
	}
	target := reflect.ValueOf(s).Elem().Field(f.index)
	if f.kind == "dirs" {
		target.Set(reflect.ValueOf(splitDirs(text)))
		return nil
	}
	target.SetString(text)
	return nil
}

func (f *field) text(s *Settings) string {
	value := reflect.ValueOf(s).Elem().Field(f.index)
	if f.kind == "dirs" {
		return strings.Join(value.Interface().([]string), "|")
	}
	return value.String()
}

// check tests the form; an empty text is always allowed and means the default.
func (f *field) check(text string) error {
	if text == "" {
		return nil
	}
	if strings.ContainsAny(text, "\n\r\x00#") {
		return fmt.Errorf("%w: %s: %q holds a line break, a NUL or a #", ErrSetting, f.key, text)
	}
	if err := checkKind(f.kind, text); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrSetting, f.key, err)
	}
	return nil
}

func checkKind(kind, text string) (err error) {
	if of, each := strings.CutPrefix(kind, "each "); each {
		for part := range strings.SplitSeq(text, "|") {
			if err = checkKind(of, strings.TrimSpace(part)); err != nil {
				return err
			}
		}
		return nil
	}
	switch kind {
	case "dir":
		if strings.Contains(text, "|") {
			err = fmt.Errorf("takes one directory, not %q", text)
		}
	case "library dir":
		// It stands in a line of the library's text.
		if strings.ContainsAny(text, "|\n#") {
			err = fmt.Errorf("takes one directory without |, # and line breaks, not %q", text)
		}
	case "dirs":
		err = checkDirs(text)
	case "size":
		_, err = ParseSize(text)
	case "count":
		_, err = strconv.ParseUint(text, 10, 64)
	case "duration":
		_, err = ParseDuration(text)
	case "name":
		err = checkName(text)
	default:
		if !oneOf(text, kind) {
			err = fmt.Errorf("%q is not one of %s", text, strings.ReplaceAll(kind, "|", ", "))
		}
	}
	return err
}

func oneOf(text, allowed string) bool {
	for value := range strings.SplitSeq(allowed, "|") {
		if text == value {
			return true
		}
	}
	return false
}

func splitDirs(text string) []string {
	var dirs []string
	for dir := range strings.SplitSeq(text, "|") {
		if dir = strings.TrimSpace(dir); dir != "" {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

func checkDirs(text string) error {
	seen := map[string]bool{}
	for _, dir := range splitDirs(text) {
		if seen[dir] {
			return fmt.Errorf("directory %s is listed twice", dir)
		}
		seen[dir] = true
	}
	return nil
}

// nameLimit is the library's, in bytes.
const nameLimit = 64

func checkName(text string) error {
	const plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_"
	if len(text) > nameLimit || strings.Trim(text, plain) != "" {
		return fmt.Errorf("%q is not a name of up to %d letters, digits, dots, hyphens and "+
			"underscores", text, nameLimit)
	}
	return nil
}

// ParseSize reads a number of bytes with an optional unit K, M, G or T (powers of 1024).
func ParseSize(text string) (uint64, error) {
	digits, shift := text, 0
	if n := len(text); n > 0 {
		if unit := strings.IndexByte("KMGT", text[n-1]&^0x20); unit >= 0 {
			digits, shift = text[:n-1], 10*(unit+1)
		}
	}
	number, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || number > math.MaxUint64>>shift {
		return 0, fmt.Errorf("%w: %q is not a size such as 4096, 512M or 2G", ErrSetting, text)
	}
	return number << shift, nil
}

// ParseDuration reads a duration such as 500ms, 2s or 1m30s; 0 needs no unit. It must be a whole
// number of milliseconds, which is what the library takes.
func ParseDuration(text string) (time.Duration, error) {
	duration, err := time.ParseDuration(text)
	if err != nil || duration < 0 {
		return 0, fmt.Errorf("%w: %q is not a duration such as 500ms or 2s", ErrSetting, text)
	}
	if duration%time.Millisecond != 0 {
		return 0, fmt.Errorf("%w: %q is not a whole number of milliseconds", ErrSetting, text)
	}
	return duration, nil
}

// libraryText is a value as the library reads it: of durations it knows digits and one unit, where
// Go has 1m0s and 1.5s.
func (f *field) libraryText(s *Settings) string {
	text := f.text(s)
	if f.kind != "duration" {
		return text
	}
	duration, err := ParseDuration(text)
	if err != nil {
		// Nobody has set it through this package; the library refuses it and says why.
		return text
	}
	return strconv.FormatInt(duration.Milliseconds(), 10) + "ms"
}

// nearest is the known key with the smallest edit distance, letter case aside.
func nearest(key string) string {
	best, least := "", math.MaxInt
	for _, f := range fields {
		if d := distance(strings.ToLower(key), strings.ToLower(f.key)); d < least {
			best, least = f.key, d
		}
	}
	return best
}

// distance is the number of inserted, removed or changed bytes between two words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
