import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("scenarios", "0010_outage_and_event")]

    operations = [
        migrations.AlterField(
            model_name="scenario",
            name="draws",
            field=models.PositiveIntegerField(
                default=200,
                help_text="Futures drawn for bands and promises. [-]",
                validators=[
                    django.core.validators.MinValueValidator(10),
                    django.core.validators.MaxValueValidator(2000),
                ],
            ),
        ),
    ]
