from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('fleet', '0003_change_region'),
    ]

    operations = [
        migrations.AddField(
            model_name='change',
            name='hash',
            field=models.CharField(default='', help_text="SHA-256 of the above; the set's hash seals it.", max_length=64),
            preserve_default=False,
        ),
    ]
