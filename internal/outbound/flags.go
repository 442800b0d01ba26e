package outbound

import (
	"flag"
	"path/filepath"

	"github.com/opencmg/opencmg"
)

// Flags are the outbound settings of a command line.
type Flags struct {
	proxy, caFile string
	connectTo     []string
	connectOnly   bool
}

// Register defines --proxy, --ca-file, --connect-to and --connect-only.
func (f *Flags) Register(fs *flag.FlagSet) {
	fs.StringVar(&f.proxy, "proxy", "", "forward proxy for calls to the outside, as a `URL`")
	fs.StringVar(&f.caFile, "ca-file", "", "`file` of PEM certificates to trust besides the system's in calls to the outside")
	fs.Func("connect-to", "send outward connections for one address to another, as `HOST:PORT:HOST:PORT`; repeatable", func(s string) error {
		if _, err := opencmg.ParseConnectTo(s); err != nil {
			return err
		}
		f.connectTo = append(f.connectTo, s)
		return nil
	})
	fs.BoolVar(&f.connectOnly, "connect-only", false, "refuse outward connections to addresses that no --connect-to maps")
}

// Add returns the configuration with the flags added to it: the proxy of the
// command line replaces the configured one, certificates are trusted from both,
// and the rules of the command line come first.
func (f *Flags) Add(c Config) (Config, error) {
	if f.proxy != "" {
		c.Proxy = f.proxy
	}
	if f.caFile != "" {
		// Relative to where the command runs, not to the configuration file.
		abs, err := filepath.Abs(f.caFile)
		if err != nil {
			return c, err
		}
		c.moreCAFiles = append([]string{abs}, c.moreCAFiles...)
	}
	c.ConnectTo = append(append([]string{}, f.connectTo...), c.ConnectTo...)
	c.ConnectOnly = c.ConnectOnly || f.connectOnly
	return c, c.Validate()
}
