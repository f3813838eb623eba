using System.Text.Json.Nodes;
using Bgsnap.Chart.Tests.Harness;

namespace Bgsnap.Chart.Tests;

/// <summary>The renderer does what Helm does, on charts of a line or two.</summary>
public sealed class RendererTests : IDisposable
{
    private readonly string _chart = Directory.CreateTempSubdirectory("bgsnap-chart-").FullName;

    public RendererTests()
    {
        Write("Chart.yaml", "{apiVersion: v2, name: small, version: 1.2.3, appVersion: \"4\", kubeVersion: '>=1.22'}");
        Write("values.yaml", "number: 8000000\nmap: {a: 1, b: {c: d}}\nlist: [x]\nempty: {}\n");
    }

    public void Dispose() => Directory.Delete(_chart, recursive: true);

    [Theory]
    // Numbers of a file are floats, as in Helm: a large one prints so unless it is converted.
    [InlineData("{{ .Values.number }}", "8e+06")]
    [InlineData("{{ .Values.number | int64 }}", "8000000")]
    [InlineData("{{ .Values.map | toYaml | nindent 2 }}", "\n  a: 1\n  b:\n    c: d")]
    [InlineData("{{ .Values.map | toJson }}", """{"a":1,"b":{"c":"d"}}""")]
    [InlineData("{{ (fromYaml \"a: [1]\").a | first }}", "1")]
    [InlineData("{{ .Chart.Name }}-{{ .Chart.Version }}-{{ .Chart.AppVersion }}", "small-1.2.3-4")]
    [InlineData("{{ .Release.Name }} {{ .Release.Namespace }} {{ .Release.IsInstall }} {{ .Release.Service }}", "bgsnap bgsnap-system true Helm")]
    [InlineData("{{ .Template.Name }} {{ .Template.BasePath }}", "small/templates/x.yaml small/templates")]
    [InlineData("{{ .Capabilities.KubeVersion.Version }} {{ .Capabilities.KubeVersion.Minor }}", "v1.31.0 31")]
    [InlineData("{{ .Capabilities.APIVersions.Has \"policy/v1\" }} {{ .Capabilities.APIVersions.Has \"policy/v1beta1\" }}", "true false")]
    [InlineData("{{ include \"brackets\" .Values.list | upper }}", "<[X]>")]
    [InlineData("{{ tpl \"{{ .Values.map.b.c }}\" . }}", "d")]
    [InlineData("{{ .Files.Get \"note.txt\" }}", "a note")]
    [InlineData("{{ lookup \"v1\" \"Pod\" \"a\" \"b\" | len }}", "0")]
    [InlineData("{{ .Values.empty.no }}", "")]
    [InlineData("{{ required \"needed\" .Values.map.b.c }}", "d")]
    public void A_template_prints(string template, string text)
    {
        Write("note.txt", "a note");
        Assert.Equal(text, Render(template).Succeeded().Objects["ConfigMap/x"]["/data/text"]!.ToString());
    }

    [Theory]
    [InlineData("{{ .Values.no.where }}", "nil pointer")]
    [InlineData("{{ required \"please set it\" .Values.no }}", "please set it")]
    [InlineData("{{ fail \"never\" }}", "never")]
    [InlineData("{{ include \"none\" . }}", "none")]
    [InlineData("{{ env \"HOME\" }}", "\"env\" not defined")]
    [InlineData("{{ include \"endless\" . }}", "without end")]
    [InlineData("{{ if }}", "missing value for if")]
    public void A_template_is_refused(string template, string message) => AssertRefused(Render(template), message);

    [Fact]
    public void A_missing_key_is_refused_when_that_is_wanted() => AssertRefused(Render("{{ .Values.empty.no }}", "--strict"), "map has no entry for key \"no\"");

    [Theory]
    [InlineData("a: b: c", "YAML parse error on small/templates/y.yaml")]
    [InlineData("kind: Pod", "without kind or apiVersion")]
    public void What_is_no_object_is_refused(string text, string message)
    {
        Write("templates/y.yaml", text);
        AssertRefused(Render("x"), message);
    }

    [Theory]
    [InlineData("--set", "map.a=2", """{"a":2,"b":{"c":"d"}}""")]
    [InlineData("--set", "map.b.c=true", """{"a":1,"b":{"c":true}}""")]
    [InlineData("--set", "map.b=null", """{"a":1}""")]
    [InlineData("--set-string", "map.a=2", """{"a":"2","b":{"c":"d"}}""")]
    [InlineData("--set", @"map.a\.b={x,3}", """{"a":1,"a.b":["x",3],"b":{"c":"d"}}""")]
    [InlineData("--set", "map.l[0].n=007", """{"a":1,"b":{"c":"d"},"l":[{"n":"007"}]}""")]
    public void A_value_is_set(string option, string set, string map) =>
        Assert.Equal(map, Render("{{ .Values.map | toJson }}", option, set).Succeeded().Objects["ConfigMap/x"]["/data/text"]!.ToString());

    [Fact]
    public void Files_of_values_are_merged_and_a_null_removes() => Assert.Equal(
        """{"b":{"c":"d","e":2}}""",
        ChartRenderer.RenderChart(Template("{{ .Values.map | toJson }}"), JsonNode.Parse("""{ "map": { "a": null, "b": { "e": 2 } } }""")!.AsObject())
            .Succeeded().Objects["ConfigMap/x"]["/data/text"]!.ToString());

    [Fact]
    public void The_schema_is_asked()
    {
        Write("values.schema.json", """{ "properties": { "list": { "items": { "type": "string" } } }, "required": ["map"] }""");
        Render("x").Succeeded();
        AssertRefused(Render("x", "--set", "list={1}"), "list.0: Invalid type. Expected: string, given: integer");
    }

    [Fact]
    public void The_version_of_the_cluster_is_asked() => AssertRefused(Render("x", "--kube-version", "1.21.5"), "kubeVersion: >=1.22");

    [Fact]
    public void Objects_come_in_the_order_in_which_they_are_applied()
    {
        Write("templates/a.yaml", "{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}}\n---\n{apiVersion: v1, kind: ServiceAccount, metadata: {name: a}}\n---\n# nothing\n");
        Assert.Equal(["ServiceAccount/a", "ConfigMap/x", "Deployment/a"], Render("x").Succeeded().Objects.Keys);
    }

    [Fact]
    public void A_value_without_a_comment_has_no_place_in_the_table() =>
        AssertRefused(ChartRenderer.RenderChart(_chart, null, "--values-table"), "values.yaml:1: number has no comment above it");

    private Rendering Render(string template, params string[] options) => ChartRenderer.RenderChart(Template(template), null, options);

    /// <summary>The chart, with a ConfigMap that holds what the template prints.</summary>
    private string Template(string template)
    {
        Write("templates/_probe.tpl", $"{{{{ define \"probe\" }}}}{template}{{{{ end }}}}");
        Write("templates/_named.tpl", "{{ define \"brackets\" }}<{{ . }}>{{ end }}{{ define \"endless\" }}{{ include \"endless\" . }}{{ end }}");
        Write("templates/x.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata:\n  text: {{ include \"probe\" . | quote }}\n");
        return _chart;
    }

    private static void AssertRefused(Rendering rendering, string message)
    {
        Assert.Equal(1, rendering.ExitCode);
        Assert.Contains(message, rendering.Error, StringComparison.Ordinal);
    }

    private void Write(string name, string text)
    {
        string path = Path.Combine(_chart, name);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.WriteAllText(path, text);
    }
}
