// chart-render renders a Helm chart without Helm, for tests and for a look at what an installation would apply.
//
// It follows Helm 3 in what a chart can see of it: the built-in objects, the functions, how values are merged, typed
// and checked against values.schema.json, and the order of the output. Not there: subcharts, hooks, library charts.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

const usage = `chart-render CHART [options]: renders a Helm chart to standard output.

  -f, --values FILE       values laid over those of the chart; may be repeated, the last one wins
  --set a.b[0]=c          one value, after all files; may be repeated. true, false, null and whole numbers are
                          what they look like; {x,y} is a list; a dot in a key is written \.
  --set-string a.b=c      the same, always a string
  --release NAME          .Release.Name (default bgsnap)
  --namespace NAME        .Release.Namespace (default bgsnap-system)
  --upgrade               .Release.IsUpgrade instead of .Release.IsInstall
  --kube-version VERSION  .Capabilities.KubeVersion (default 1.31.0); decides which APIs the cluster has
  --api-versions LIST     further .Capabilities.APIVersions, separated by commas; may be repeated
  --include-crds          the files of crds/ too, first
  --strict                a missing key is an error, as for helm lint --strict
  --notes                 NOTES.txt instead of the objects
  --values-table          the table of values for the chart's README instead of the objects

It ends with 1 and a message when Helm would refuse the chart or the values.
`

// repeated is a flag that may be given more than once.
type repeated []string

func (r *repeated) String() string     { return fmt.Sprint(*r) }
func (r *repeated) Set(s string) error { *r = append(*r, s); return nil }

type options struct {
	chart                    string
	files, sets, setStrings  repeated
	apiVersions              repeated
	release, namespace, kube string
	upgrade, strict, notes   bool
	includeCRDs, table       bool
}

func parseOptions(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("chart-render", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Var(&o.files, "values", "")
	flags.Var(&o.files, "f", "")
	flags.Var(&o.sets, "set", "")
	flags.Var(&o.setStrings, "set-string", "")
	flags.Var(&o.apiVersions, "api-versions", "")
	flags.StringVar(&o.release, "release", "bgsnap", "")
	flags.StringVar(&o.namespace, "namespace", "bgsnap-system", "")
	flags.StringVar(&o.kube, "kube-version", "1.31.0", "")
	flags.BoolVar(&o.upgrade, "upgrade", false, "")
	flags.BoolVar(&o.strict, "strict", false, "")
	flags.BoolVar(&o.notes, "notes", false, "")
	flags.BoolVar(&o.includeCRDs, "include-crds", false, "")
	flags.BoolVar(&o.table, "values-table", false, "")

	// The chart may stand before the options, where package flag would stop reading.
	if len(args) > 0 && args[0] != "" && args[0][0] != '-' {
		o.chart, args = args[0], args[1:]
	}
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	rest := flags.Args()
	if o.chart == "" && len(rest) > 0 {
		o.chart, rest = rest[0], rest[1:]
	}
	if o.chart == "" {
		return o, errors.New("no chart named; --help shows the options")
	}
	if len(rest) > 0 {
		return o, fmt.Errorf("unexpected argument %q; --help shows the options", rest[0])
	}
	return o, nil
}

func main() {
	o, err := parseOptions(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		fmt.Print(usage)
		return
	}
	if err == nil {
		err = run(o, os.Stdout)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "chart-render: error: %v\n", err)
		os.Exit(1)
	}
}

func run(o options, out io.Writer) error {
	c, err := loadChart(o.chart)
	if err != nil {
		return err
	}
	if o.table {
		return writeValuesTable(c, out)
	}
	capabilities, err := capabilitiesOf(o.kube, o.apiVersions)
	if err != nil {
		return err
	}
	if err := c.checkKubeVersion(o.kube); err != nil {
		return err
	}
	values, err := valuesOf(c, o)
	if err != nil {
		return err
	}
	if err := checkSchema(c, values); err != nil {
		return err
	}
	rendered, err := render(c, values, release{o.release, o.namespace, o.upgrade}, capabilities, o.strict)
	if err != nil {
		return err
	}
	if o.notes {
		_, err = io.WriteString(out, rendered[c.name+"/templates/NOTES.txt"])
		return err
	}
	return writeManifests(c, rendered, o.includeCRDs, out)
}
