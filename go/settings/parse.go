package settings

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
)

// ErrSetting is what every error of this package unwraps to.
var ErrSetting = errors.New("bad setting")

// FromEnviron takes the settings whose key is the name of an environment variable. Other variables
// are not ours and are ignored.
func FromEnviron() (Settings, error) {
	var s Settings
	for _, f := range fields {
		if text, present := os.LookupEnv(f.key); present {
			if err := f.set(&s, text); err != nil {
				return Settings{}, fmt.Errorf("environment: %w", err)
			}
		}
	}
	return s, nil
}

// FromFile reads a file of "key = value" lines; # begins a comment.
func FromFile(path string) (Settings, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Settings{}, err
	}
	s, err := Parse(string(text))
	if err != nil {
		return Settings{}, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// Parse reads "key = value" lines. Errors name the line.
func Parse(text string) (Settings, error) {
	var s Settings
	seen := map[string]int{}
	for i, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		key, value, found := strings.Cut(line, "=")
		if !found {
			return Settings{}, fmt.Errorf("line %d: %w: %q is not of the form key = value", i+1,
				ErrSetting, line)
		}
		key = strings.TrimSpace(key)
		if first, twice := seen[key]; twice {
			return Settings{}, fmt.Errorf("line %d: %w: %s was set in line %d already", i+1,
				ErrSetting, key, first)
		}
		seen[key] = i + 1
		if err := s.Set(key, strings.TrimSpace(value)); err != nil {
			return Settings{}, fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	return s, nil
}

// FromStruct takes every field of a struct (or pointer to one) that has a `key` tag which is one of
// ours; other fields are the node's own and are ignored. Strings, string slices, integers, booleans
// and types with a String method are understood; zero values are left out.
func FromStruct(source any) (Settings, error) {
	var s Settings
	value := reflect.ValueOf(source)
	for value.Kind() == reflect.Pointer && !value.IsNil() {
		value = value.Elem()
	}
	if value.Kind() != reflect.Struct {
		return s, fmt.Errorf("%w: need a struct, not %T", ErrSetting, source)
	}
	return s, fromStruct(&s, value)
}

func fromStruct(s *Settings, value reflect.Value) error {
	for i := range value.NumField() {
		described, field := value.Type().Field(i), value.Field(i)
		if !described.IsExported() {
			continue
		}
		key, tagged := described.Tag.Lookup("key")
		f := fieldOf(key)
		if !tagged || f == nil {
			if field.Kind() == reflect.Struct {
				if err := fromStruct(s, field); err != nil {
					return err
				}
			}
			continue
		}
		if field.IsZero() {
			continue
		}
		text, err := textOfValue(field)
		if err != nil {
			return fmt.Errorf("field %s: %w", described.Name, err)
		}
		if err := f.set(s, text); err != nil {
			return fmt.Errorf("field %s: %w", described.Name, err)
		}
	}
	return nil
}

func textOfValue(field reflect.Value) (string, error) {
	switch v := field.Interface().(type) {
	case fmt.Stringer:
		return v.String(), nil
	case []string:
		return strings.Join(v, "|"), nil
	}
	switch field.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint32,
		reflect.Uint64:
		return fmt.Sprint(field.Interface()), nil
	}
	return "", fmt.Errorf("%w: cannot take a setting from a %s", ErrSetting, field.Type())
}

// Set sets one key from its text.
func (s *Settings) Set(key, text string) error {
	f := fieldOf(key)
	if f == nil {
		return fmt.Errorf("%w: %s is not known; did you mean %s?", ErrSetting, key, nearest(key))
	}
	return f.set(s, text)
}

// Validate checks the form of every value: units, enumerations, directories without a separator in
// them.
func (s *Settings) Validate() error {
	for _, f := range fields {
		if err := f.check(f.text(s)); err != nil {
			return err
		}
	}
	return nil
}

// Text is the library's part as "key = value" lines: the runtime's and the maps' keys that are set,
// without the directories that differ by use. Durations are in milliseconds.
func (s *Settings) Text() string {
	var text strings.Builder
	for _, f := range fields {
		if f.kind == "dir" || f.kind == "dirs" {
			continue
		}
		if value := f.libraryText(s); value != "" {
			fmt.Fprintf(&text, "%s = %s\n", f.key, value)
		}
	}
	return text.String()
}
