using Bgsnap.Chart.Tests.Harness;

// Writes the table of values into the README of a chart: `make chart-readme`.
if (args is not [string chart])
{
    Console.Error.WriteLine("usage: chart-readme CHART");
    return 2;
}
string readme = Path.Combine(chart, "README.md");
string values = File.ReadAllText(Path.Combine(chart, "values.yaml"));
File.WriteAllText(readme, ValuesReadme.WithTable(File.ReadAllText(readme), ValuesTable.Markdown(values)));
return 0;
