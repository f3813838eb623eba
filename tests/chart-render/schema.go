package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/xeipuuv/gojsonschema"
)

// checkSchema refuses values that values.schema.json does not allow, naming each.
func checkSchema(c *chart, values map[string]any) error {
	if c.schema == nil {
		return nil
	}
	raw, err := json.Marshal(values)
	if err != nil {
		return err
	}
	result, err := gojsonschema.Validate(gojsonschema.NewBytesLoader(c.schema), gojsonschema.NewBytesLoader(raw))
	if err != nil {
		return fmt.Errorf("values.schema.json: %w", err)
	}
	if result.Valid() {
		return nil
	}
	var lines []string
	for _, problem := range result.Errors() {
		lines = append(lines, "- "+problem.String())
	}
	sort.Strings(lines)
	return errors.New("values don't meet the specifications of the schema:\n" + strings.Join(lines, "\n"))
}
