package blocktier

import (
	"fmt"
	"log/slog"

	"github.com/blocktier/blocktier/go/internal/ffi"
	"github.com/blocktier/blocktier/go/settings"
)

// Option changes how Open opens a Runtime. Later options win.
type Option func(*config) error

type config struct {
	settings settings.Settings
	logger   *slog.Logger
}

// WithSettings takes all settings from s.
func WithSettings(s settings.Settings) Option {
	return func(c *config) error {
		c.settings = s
		return nil
	}
}

// WithSetting sets one key of package settings from its text, such as "memoryBudget" and "8G".
func WithSetting(key, value string) Option {
	return func(c *config) error { return c.settings.Set(key, value) }
}

// WithMemoryBudget limits the memory of tails, indexes and arrays together, in bytes. The default
// is a share of the memory of the machine or of its control group.
func WithMemoryBudget(bytes uint64) Option {
	return WithSetting("memoryBudget", fmt.Sprint(bytes))
}

// WithLogger sends events (a fallback that was taken, a failed disk) and reports of forgotten
// objects to logger. The default is slog.Default().
func WithLogger(logger *slog.Logger) Option {
	return func(c *config) error {
		c.logger = logger
		return nil
	}
}

func (c *config) apply(options []Option) error {
	c.logger = slog.Default()
	for _, option := range options {
		if err := option(c); err != nil {
			return ffi.Errorf(ffi.Setting, "%v", err)
		}
	}
	if c.logger == nil {
		c.logger = slog.New(slog.DiscardHandler)
	}
	if err := c.settings.Validate(); err != nil {
		return ffi.Errorf(ffi.Setting, "%v", err)
	}
	return nil
}
